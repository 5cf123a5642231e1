// A blocked matrix product. Blocks are values that tasks share; each product of two blocks is a task, and the sums into
// one block of the result run in order because they update the same value.
//
//   matrix [BLOCKS] [SIZE]      default: 4 x 4 blocks of 64 x 64 numbers
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "shoal/shoal.hpp"

namespace {

struct Block {
  std::uint32_t size = 0;
  std::vector<double> values;
  template <class Self, class F>
  static void fields(Self& self, F&& f) {
    f(self.size, self.values);
  }
};

Block make_block(std::uint32_t size, std::uint32_t row, std::uint32_t column) {
  Block block{size, std::vector<double>(static_cast<std::size_t>(size) * size)};
  for (std::size_t i = 0; i < block.values.size(); ++i)
    block.values[i] = static_cast<double>((i + row * 7 + column * 3) % 10);
  return block;
}

void multiply_add(shoal::In<Block> a, shoal::In<Block> b, shoal::InOut<Block> sum) {
  const std::size_t n = a.size;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t k = 0; k < n; ++k) {
      const double factor = a.values[i * n + k];
      for (std::size_t j = 0; j < n; ++j) sum.values[i * n + j] += factor * b.values[k * n + j];
    }
  }
}

double trace(shoal::In<Block> block) {
  double out = 0;
  for (std::size_t i = 0; i < block.size; ++i) out += block.values[i * block.size + i];
  return out;
}

const auto make_block_task = shoal::task(make_block, "make_block");
const auto multiply_add_task = shoal::task(multiply_add, "multiply_add");
const auto trace_task = shoal::task(trace, "trace");

}  // namespace

int main(int argc, char** argv) {
  const shoal::Program program(argc, argv);
  const auto blocks = static_cast<std::uint32_t>(argc > 1 ? std::atoi(argv[1]) : 4);
  const auto size = static_cast<std::uint32_t>(argc > 2 ? std::atoi(argv[2]) : 64);
  try {
    using Row = std::vector<shoal::Future<Block>>;
    std::vector<Row> a(blocks, Row(blocks));
    std::vector<Row> b(blocks, Row(blocks));
    for (std::uint32_t i = 0; i < blocks; ++i) {
      for (std::uint32_t j = 0; j < blocks; ++j) {
        a[i][j] = make_block_task(size, i, j);
        b[i][j] = make_block_task(size, j, i);
      }
    }
    std::vector<shoal::Future<double>> traces;
    for (std::uint32_t i = 0; i < blocks; ++i) {
      for (std::uint32_t j = 0; j < blocks; ++j) {
        auto sum = shoal::share(Block{size, std::vector<double>(static_cast<std::size_t>(size) * size)});
        for (std::uint32_t k = 0; k < blocks; ++k) multiply_add_task(a[i][k], b[k][j], sum);
        if (i == j) traces.push_back(trace_task(sum));
      }
    }
    double total = 0;
    for (const auto& part : traces) total += part.get();
    std::cout << "trace of the product: " << total << '\n';
  } catch (const shoal::Failure& error) {
    std::cerr << "matrix: " << error.what() << '\n';
    return 1;
  }
  return 0;
}
