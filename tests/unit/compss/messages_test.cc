// Goal: what COMPSs' scripts send is understood, in XML and in JSON, and everything else is refused with the reason.
// Method: bodies as the scripts write them, then each broken in one way; the answer's text is part of the contract.
#include "agent/compss/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shoal::compss {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kXml[] = "application/xml";
constexpr char kJson[] = "application/json";

std::string wrap(const std::string& inner) {
  return "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<startApplication>" + inner +
         "</startApplication>";
}

std::string python(const std::string& inner) {
  return wrap("<lang>PYTHON</lang><className>simple</className><methodName>main</methodName>" + inner);
}

std::string parameter(const std::string& type, const std::string& value, const std::string& class_name = "",
                      int id = 0) {
  return "<params paramId=\"" + std::to_string(id) + "\"><accessMode>READ</accessMode><paramName></paramName><type>" +
         type + "</type><element paramId=\"0\"><className>" + class_name +
         "</className><value xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"xs:string\">" + value +
         "</value></element></params>";
}

std::string arguments_of(const std::string& params) {
  const std::string text = python("<parameters>" + params + "</parameters>");
  auto start = read_start({kXml, text});
  return start ? start->arguments.json : start.error().message;
}

std::string refused(const std::string& text, std::string_view type = kXml) {
  auto start = read_start({type, text});
  if (start) return "was taken";
  EXPECT_TRUE(start.error().code == Code::kInvalid || start.error().code == Code::kUnsupported);
  return start.error().message;
}

TEST(StartApplication, WhatTheScriptSends) {
  // compss_agent_call_operation --lang=PYTHON --method_name=main simple 4 'a b' ''
  const std::string text = python("<hasResult>false</hasResult><parameters>" + parameter("STRING_64_T", "IzQ=") +
                                  parameter("STRING_64_T", "I2EgYg==", "java.lang.String", 1) +
                                  parameter("STRING_64_T", "Iw==", "java.lang.String", 2) + "</parameters>");
  auto start = read_start({kXml, text});
  ASSERT_TRUE(start) << start.error().message;
  EXPECT_EQ(start->language, Language::kPython);
  EXPECT_EQ(start->program, "simple");
  EXPECT_EQ(start->function, "main");
  EXPECT_EQ(start->arguments.json, R"(["4","a b",""])");
  EXPECT_THAT(start->arguments.words, ElementsAre("4", "a b", ""));
  EXPECT_FALSE(start->has_result);
  EXPECT_FALSE(start->stop);
  EXPECT_FALSE(start->orchestrator);
}

TEST(StartApplication, BasicTypesAndTheirRanges) {
  EXPECT_EQ(arguments_of(parameter("BOOLEAN_T", " true ")), "[true]");
  EXPECT_EQ(arguments_of(parameter("INT_T", "-3")), "[-3]");
  EXPECT_EQ(arguments_of(parameter("INT", "+3")), "[3]");
  EXPECT_EQ(arguments_of(parameter("LONG_T", "9223372036854775807")), "[9223372036854775807]");
  EXPECT_EQ(arguments_of(parameter("DOUBLE_T", "1.5e3")), "[1500.0]");
  EXPECT_EQ(arguments_of(parameter("STRING_T", " as it is ")), R"([" as it is "])");
  EXPECT_EQ(arguments_of(parameter("STRING_T", "a&lt;b&#233;<![CDATA[<x>]]>")), R"(["a<b\u00e9<x>"])");
  EXPECT_EQ(arguments_of(parameter("STRING_T", "")), R"([""])");
  EXPECT_EQ(arguments_of(parameter("FILE_T", "/data/in.txt")), R"(["/data/in.txt"])");
  EXPECT_THAT(arguments_of(parameter("BYTE_T", "128")), HasSubstr("-128 to 127"));
  EXPECT_THAT(arguments_of(parameter("INT_T", "2147483648")), HasSubstr("parameter 0"));
  EXPECT_THAT(arguments_of(parameter("INT_T", "3 apples")), HasSubstr("whole number"));
  EXPECT_THAT(arguments_of(parameter("BOOLEAN_T", "yes")), HasSubstr("true or false"));
  EXPECT_THAT(arguments_of(parameter("DOUBLE_T", "nan")), HasSubstr("finite"));
  EXPECT_THAT(arguments_of(parameter("STRING_64_T", "plain text")), HasSubstr("base64"));
  EXPECT_THAT(arguments_of(parameter("STRING_64_T", "I/8=")), HasSubstr("base64"));  // not UTF-8
  EXPECT_THAT(arguments_of(parameter("FILE_T", " ")), HasSubstr("names no file"));
  EXPECT_THAT(arguments_of(parameter("PSCO_T", "id")), HasSubstr("PSCO_T"));
  EXPECT_THAT(arguments_of(parameter("OBJECT_T", "x", "com.example.Thing")), HasSubstr("only Java can read"));
  EXPECT_THAT(arguments_of("<params><type>INT_T</type></params>"), HasSubstr("no <element>"));
  EXPECT_THAT(arguments_of("<other/>"), HasSubstr("<params>"));
}

TEST(StartApplication, ArraysAndOrder) {
  const std::string array =
      "<params paramId=\"1\"><type>OBJECT_T</type><array paramId=\"0\"><componentClassname>java.lang.String"
      "</componentClassname><values><element paramId=\"0\"><className>java.lang.String</className><value>I2E="
      "</value></element><element><className>java.lang.String</className><value>plain</value></element>"
      "<array><values><element><className>java.lang.Integer</className><value>7</value></element></values></array>"
      "</values></array></params>";
  EXPECT_EQ(arguments_of(array + parameter("INT_T", "1")), R"([1,["a","plain",[7]]])");
  EXPECT_EQ(arguments_of("<params><type>OBJECT_T</type><array/></params>"), "[[]]");
}

TEST(StartApplication, TheSameInJson) {
  auto start = read_start({kJson, R"({"lang": "python", "className": "pack.age", "hasResult": true,
      "parameters": [1, "two", null, [true], {"k": 2.5}, {"type": "FILE_T", "value": "/a"}],
      "orchestrator": {"host": "127.0.0.1:8080/", "operation": "COMPSs/endApplication/"}})"});
  ASSERT_TRUE(start) << start.error().message;
  EXPECT_EQ(start->program, "pack.age");
  EXPECT_EQ(start->function, "main");
  EXPECT_TRUE(start->has_result);
  EXPECT_EQ(start->arguments.json, R"([1,"two",null,[true],{"k":2.5},"/a"])");
  ASSERT_TRUE(start->orchestrator);
  EXPECT_EQ(start->orchestrator->method, "PUT");
  EXPECT_EQ(start->orchestrator->url, "http://127.0.0.1:8080/COMPSs/endApplication/");
  EXPECT_THAT(refused(R"({"lang": "PYTHON", "className": "a", "parameters": 3})", kJson), HasSubstr("list of values"));
  EXPECT_THAT(refused(R"({"lang": "PYTHON", "className": "a", "parameters": [{"type":"INT","value":"x"}]})", kJson),
              HasSubstr("whole number"));
  EXPECT_THAT(refused("[1]", kJson), HasSubstr("not an object"));
  EXPECT_THAT(refused("{\"a\": ", kJson), HasSubstr("broken"));
}

TEST(StartApplication, ActionsAndOrchestrators) {
  auto stop = read_start({kXml, python("<action><actionName>stop</actionName><forwardTo><agent>http://10.0.0.2:46101"
                                       "</agent><agent>host:1</agent></forwardTo></action>")});
  ASSERT_TRUE(stop) << stop.error().message;
  EXPECT_TRUE(stop->stop);
  EXPECT_THAT(stop->forward_to, ElementsAre("http://10.0.0.2:46101", "http://host:1"));
  EXPECT_THAT(refused(python("<action><actionName>dance</actionName></action>")), HasSubstr("\"stop\""));
  const auto orchestrator = [](const std::string& host, const std::string& method) {
    return python("<orchestrator><address>" + host + "</address><method>" + method +
                  "</method><operation>/end</operation></orchestrator>");
  };
  EXPECT_EQ(read_start({kXml, orchestrator("http://a:1", "POST")})->orchestrator->url, "http://a:1/end");
  EXPECT_THAT(refused(orchestrator("https://a:1", "PUT")), HasSubstr("HTTP server"));
  EXPECT_THAT(refused(orchestrator("http://user@a", "PUT")), HasSubstr("HTTP server"));
  EXPECT_THAT(refused(orchestrator("", "PUT")), HasSubstr("HTTP server"));
  EXPECT_THAT(refused(orchestrator("http://a:1", "DELETE")), HasSubstr("PUT or POST"));
}

TEST(StartApplication, Languages) {
  EXPECT_THAT(refused(wrap("<className>a.B</className>")), HasSubstr("means JAVA"));
  EXPECT_THAT(refused(wrap("<lang>Java</lang><className>a.B</className>")), HasSubstr("lang JAVA"));
  EXPECT_THAT(refused(wrap("<lang>COBOL</lang><className>a.B</className>")), HasSubstr("COBOL"));
  auto native = read_start({kXml, wrap("<lang>C</lang><className>/bin/echo</className><parameters>" +
                                       parameter("STRING_64_T", "plain") + "</parameters>")});
  ASSERT_TRUE(native) << native.error().message;
  EXPECT_THAT(native->arguments.words, ElementsAre("plain"));
  EXPECT_THAT(refused(wrap("<lang>C</lang><className>echo</className>")), HasSubstr("absolute path"));
}

TEST(StartApplication, NamesAreNames) {
  const auto of = [](const std::string& module, const std::string& function) {
    return wrap("<lang>PYTHON</lang><className>" + module + "</className><methodName>" + function + "</methodName>");
  };
  EXPECT_TRUE(read_start({kXml, of("/programs/app.py", "main")}));
  for (const char* module : {"", "a..b", "a b", "../a", "a.py/", "os;x", "1a", "relative/app.py"})
    EXPECT_THAT(refused(of(module, "main")), HasSubstr("className")) << module;
  for (const char* function : {"a.b", "f()", "1"}) EXPECT_THAT(refused(of("m", function)), HasSubstr("methodName"));
  EXPECT_THAT(refused(of(std::string(2000, 'a'), "main")), HasSubstr("too long"));
  EXPECT_THAT(refused(python("<target><element/></target>")), HasSubstr("target"));
  EXPECT_THAT(refused(python("<prolog><binary>ls</binary></prolog>")), HasSubstr("@prolog"));
}

TEST(Xml, BrokenAndHostileBodies) {
  for (const char* text : {"", "   ", "<a>", "<a></b>", "text", "<a/><b/>", "<a", "\xff\xfe<\0a", "<a>\xc0\x80</a>"})
    EXPECT_NE(refused(text), "was taken") << text;
  std::string bomb = "<?xml version=\"1.0\"?><!DOCTYPE b [<!ENTITY a \"aaaaaaaaaa\">";
  for (char c = 'b'; c < 'k'; ++c) {
    bomb += std::string("<!ENTITY ") + c + " \"";
    for (int i = 0; i < 10; ++i) bomb += std::string("&") + static_cast<char>(c - 1) + ";";
    bomb += "\">";
  }
  EXPECT_THAT(refused(bomb + "]><startApplication>&j;</startApplication>"), HasSubstr("document type"));
  EXPECT_THAT(refused("<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><startApplication/>"), HasSubstr("document type"));
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "<a>";
  for (int i = 0; i < 100'000; ++i) deep += "</a>";
  EXPECT_THAT(refused(deep), HasSubstr("nested deeper"));
  std::string wide = "<startApplication>";
  for (int i = 0; i < 20'000; ++i) wide += "<a/>";
  EXPECT_THAT(refused(wide + "</startApplication>"), HasSubstr("more than 10000"));
  EXPECT_THAT(refused(std::string(100'000, '['), kJson), HasSubstr("nested deeper"));
  EXPECT_THAT(refused(R"({"lang": "PYTHON", "className": "a", "parameters": )" + std::string(50, '[') +
                          std::string(50, ']') + "}",
                      kJson),
              HasSubstr("nested deeper"));
}

TEST(Xml, TheRootAndTheFormMustFit) {
  EXPECT_THAT(refused("<stopApplication/>"), HasSubstr("<stopApplication>"));
  // curl's -d says that it is a form: then the first character decides.
  EXPECT_TRUE(read_start({"application/x-www-form-urlencoded", "\n" + python("")}));
  EXPECT_TRUE(read_start({"", R"({"lang": "PYTHON", "className": "a"})"}));
  EXPECT_THAT(refused("lang=PYTHON", ""), HasSubstr("neither XML nor JSON"));
}

TEST(Nodes, NamesPortsAndUnits) {
  const std::string added =
      "<newResource><externalResource><name>COMPSsWorker02</"
      "name><description><processors><processor><name>MainProcessor"
      "</name><type>CPU</type><computingUnits>2</computingUnits></processor><processor><type>GPU</"
      "type><computingUnits>4"
      "</computingUnits></processor></processors><memorySize>-1</memorySize></description><adaptor>x</adaptor>"
      "<resourceConf xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"P\"><Property><Name>Port</Name>"
      "<Value>46202</Value></Property></resourceConf></externalResource></newResource>";
  auto node = read_new_resource({kXml, added});
  ASSERT_TRUE(node) << node.error().message;
  EXPECT_EQ(node->name, "COMPSsWorker02");
  EXPECT_EQ(node->port, "46202");
  EXPECT_EQ(node->units, 2U);
  EXPECT_EQ(read_new_resource({kJson, R"({"name": "w", "port": 7})"})->port, "7");
  EXPECT_FALSE(read_new_resource({kXml, "<newResource/>"}));
  auto reduced = read_reduce_node({kXml,
                                   "<reduceNode><workerName>w</workerName><resources><processors><processor>"
                                   "<computingUnits>1</computingUnits></processor></processors></resources>"
                                   "</reduceNode>"});
  ASSERT_TRUE(reduced);
  EXPECT_EQ(reduced->units, 1U);
  EXPECT_FALSE(read_reduce_node({kXml,
                                 "<reduceNode><workerName>w</workerName><resources><processors>"
                                 "<computingUnits>-1</computingUnits></processors></resources></reduceNode>"}));
  EXPECT_EQ(read_worker({kXml, "<lostNode><workerName> w </workerName></lostNode>"})->name, "w");
  EXPECT_EQ(read_worker({kJson, R"({"workerName": "w"})"})->name, "w");
  EXPECT_FALSE(read_worker({kXml, "<lostNode/>"}));
}

TEST(EndApplication, IsReadAsItIsWritten) {
  EndApplication end{"42", "OK", {"file://host/a<b>"}, {{"taskCreated", 5}}};
  const std::string text = write_end(end);
  EXPECT_THAT(text, HasSubstr("<endStatus>OK</endStatus><jobId>42</jobId>"));
  auto read = read_end({kXml, text});
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->job, "42");
  EXPECT_EQ(read->status, "OK");
  EXPECT_THAT(read->locations, ElementsAre("file://host/a<b>"));
  EXPECT_THAT(read_end({kXml, "<endApplication><jobId>1</jobId><endStatus>OK</endStatus></endApplication>"})->locations,
              IsEmpty());
  EXPECT_FALSE(read_end({kXml, "<endApplication><endStatus>OK</endStatus></endApplication>"}));
  EXPECT_FALSE(read_end({kXml, "<endApplication><jobId>1</jobId><endStatus>a b</endStatus></endApplication>"}));
}

}  // namespace
}  // namespace shoal::compss
