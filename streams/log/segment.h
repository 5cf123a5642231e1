// streams/log/segment.h
//
// One file of a partition's log: record batches one after the other, named by the first offset. Only the newest
// segment of a partition grows; a sealed one has an index file beside it ("<base>.index": offset and position of a
// batch about every 4 KiB), which can always be rebuilt from the batches.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "streams/log/file.h"
#include "streams/model/record_batch.h"

namespace shoal::streams {

class Segment {
 public:
  // The segment file of `directory` that begins at `base`. `bytes` and `end` as known without reading it.
  Segment(std::string directory, Offset base, std::uint64_t bytes, Offset end);

  static std::string log_name(Offset base);  // "00000000000000000042.log"
  static std::optional<Offset> base_of(const std::string& file_name, const std::string& suffix);

  Offset base() const { return base_; }
  Offset end() const { return end_; }  // one past the last offset in it
  std::uint64_t bytes() const { return bytes_; }
  std::string path(const std::string& suffix) const;

  Result<> create();
  // Reads everything, cuts the file at the first byte that is not a good batch, and calls `visit` for each header.
  // Returns the number of bytes cut. Only for the newest segment.
  template <class Visit>
  Result<std::uint64_t> recover(Visit&& visit) {
    auto headers = scan_and_cut();
    if (!headers) return tl::unexpected(headers.error());
    for (const auto& header : *headers) visit(header);
    return cut_bytes_;
  }
  // Headers of all good batches, without changing anything.
  Result<std::vector<BatchHeader>> scan();

  // Appends a batch whose base offset is end(). On error nothing was appended.
  Result<> append(std::string_view batch, const BatchHeader& header);
  // Complete, checked batches from the one that contains `from`: at least one, then as many as fit `bytes_max` and
  // begin before `below`. Empty if there is none in this segment.
  Result<std::vector<Bytes>> read(Offset from, Offset below, std::size_t bytes_max);

  // Writes the index file; called when the segment stops growing. A failure costs a rebuild later, nothing else.
  void seal();
  // Closes the file and forgets the index; both come back on demand.
  void rest();
  void remove_files() const;
  Result<std::shared_ptr<File>> file();

 private:
  struct Entry {
    Offset offset = 0;
    std::uint64_t position = 0;
    template <class Self, class F>
    static void fields(Self& self, F&& f) {
      f(self.offset, self.position);
    }
  };
  Result<std::vector<BatchHeader>> scan_and_cut();
  Result<std::vector<BatchHeader>> walk(std::uint64_t& good_bytes);
  Result<> ensure_index();
  void note_in_index(Offset offset, std::uint64_t position);
  std::uint64_t position_before(Offset offset) const;

  std::string directory_;
  Offset base_;
  Offset end_;
  std::uint64_t bytes_;
  std::uint64_t cut_bytes_ = 0;
  std::shared_ptr<File> file_;
  bool indexed_ = false;
  std::vector<Entry> index_;
  Entry hint_;  // a batch start that the next sequential read is near to
};

}  // namespace shoal::streams
