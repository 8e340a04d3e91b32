// Each rule of the house finds its violation and lets good text pass.
#include "tests/architecture/checks.h"

#include <string>
#include <string_view>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/architecture/repository.h"

namespace vicinal::architecture {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Violations Includes(std::string path, std::string_view line,
                    bool exists = true) {
  return CheckIncludes({std::move(path), std::string(line)},
                       [=](const std::string&) { return exists; });
}

TEST(IncludeRule, AllowsTheArrowsAsDrawn) {
  EXPECT_THAT(Includes("src/base/a.h", "#include <vector>"), IsEmpty());
  EXPECT_THAT(Includes("src/base/a.h", "#include \"absl/status/status.h\""),
              IsEmpty());
  EXPECT_THAT(Includes("index/a.cc", "#include \"src/distance/distance.h\""),
              IsEmpty());
  EXPECT_THAT(Includes("src/engine/a.cc", "#include \"storage/b.h\""),
              IsEmpty());
  EXPECT_THAT(Includes("storage/a.cc", "#include \"rocksdb/db.h\""), IsEmpty());
  EXPECT_THAT(Includes("server/a.cc", "#include \"vicinal/v1/point.pb.h\""),
              IsEmpty());
  EXPECT_THAT(Includes("bench/a.cc", "#include \"hnswlib/hnswlib.h\""),
              IsEmpty());
  EXPECT_THAT(Includes("tests/e2e/a.cc", "#include \"rocksdb/db.h\""),
              IsEmpty());
}

TEST(IncludeRule, RefusesAnArrowThatIsNotDrawn) {
  EXPECT_THAT(Includes("src/base/a.cc", "#include \"index/hnsw.h\""),
              ElementsAre("src/base/a.cc:1: no arrow leads from src/base to "
                          "index (index/hnsw.h)"));
  EXPECT_THAT(Includes("storage/a.cc", "#include \"index/hnsw.h\""),
              ElementsAre(HasSubstr("from storage to index")));
  EXPECT_THAT(Includes("index/a.cc", "# include \"storage/b.h\""),
              ElementsAre(HasSubstr("from index to storage")));
  EXPECT_THAT(Includes("client/a.cc", "#include \"src/engine/database.h\""),
              ElementsAre(HasSubstr("from client to src/engine")));
  EXPECT_THAT(Includes("server/a.cc", "#include \"client/client.h\""),
              ElementsAre(HasSubstr("from server to client")));
}

TEST(IncludeRule, KeepsForeignLibrariesInTheirFolders) {
  EXPECT_THAT(Includes("src/engine/a.cc", "#include \"rocksdb/db.h\""),
              ElementsAre(HasSubstr("src/engine must not see rocksdb")));
  EXPECT_THAT(Includes("src/engine/a.cc", "#include <grpcpp/grpcpp.h>"),
              ElementsAre(HasSubstr("src/engine must not see grpc")));
  EXPECT_THAT(Includes("index/a.cc", "#include \"vicinal/v1/point.pb.h\""),
              ElementsAre(HasSubstr("index must not see proto")));
  EXPECT_THAT(Includes("src/distance/a.cc", "#include <cuda_runtime.h>"),
              ElementsAre(HasSubstr("must not see cuda")));
  EXPECT_THAT(Includes("src/distance/gpu/a.cu", "#include <cuda_runtime.h>"),
              IsEmpty());
  EXPECT_THAT(Includes("index/a.cc", "#include \"hnswlib/hnswlib.h\""),
              ElementsAre(HasSubstr("must not see peers")));
  EXPECT_THAT(Includes("tests/index/a.cc", "#include \"hnswlib/hnswlib.h\""),
              ElementsAre(HasSubstr("belongs in bench/")));
}

TEST(IncludeRule, WantsPathsFromTheRootThatExist) {
  EXPECT_THAT(Includes("src/base/a.cc", "#include \"types.h\""),
              ElementsAre(HasSubstr("no header types.h")));
  EXPECT_THAT(Includes("src/base/a.cc", "#include \"src/base/gone.h\"", false),
              ElementsAre(HasSubstr("no header src/base/gone.h")));
}

TEST(IncludeRule, KeepsKernelFilesBare) {
  EXPECT_THAT(Includes("src/distance/kernels_avx2.cc", "#include <vector>"),
              ElementsAre(HasSubstr("a kernel file must not include vector")));
  EXPECT_THAT(
      Includes("src/distance/kernels_avx2.cc", "#include <immintrin.h>"),
      IsEmpty());
  EXPECT_THAT(Includes("src/distance/kernels.h", "#include \"src/base/b.h\""),
              ElementsAre(HasSubstr("a kernel file must not include")));
}

TEST(HeaderRule, WantsACommentAndThenPragmaOnce) {
  EXPECT_THAT(CheckHeaderOpening({"a.h", "// What.\n#pragma once\n"}),
              IsEmpty());
  EXPECT_THAT(CheckHeaderOpening({"a.h", "#pragma once\n"}),
              ElementsAre(HasSubstr("without a comment")));
  EXPECT_THAT(CheckHeaderOpening({"a.h", "// What.\n#include <vector>\n"}),
              ElementsAre("a.h:2: code before #pragma once"));
  EXPECT_THAT(CheckHeaderOpening({"a.h", "// What.\n"}),
              ElementsAre(HasSubstr("no #pragma once")));
}

Violations PageLinks(const std::string& text) {
  static const TextFile kOther = {"docs/b.md", "# One thing\n## More: `x`\n"};
  return CheckLinks(
      {"docs/a.md", text},
      [](const std::string& path) { return path == "docs/b.md"; },
      [](const std::string& path) {
        return path == "docs/b.md" ? &kOther : nullptr;
      });
}

TEST(LinkRule, FindsDeadLinksAndFragments) {
  EXPECT_THAT(PageLinks("see [b](b.md) and [b](../docs/b.md#one-thing)"),
              IsEmpty());
  EXPECT_THAT(PageLinks("[m](b.md#more-x) [w](https://example.org/x.md)"),
              IsEmpty());
  EXPECT_THAT(PageLinks("one\n[c](c.md)"),
              ElementsAre("docs/a.md:2: dead link c.md"));
  EXPECT_THAT(PageLinks("[c](../../b.md)"),
              ElementsAre(HasSubstr("dead link ../../b.md")));
  EXPECT_THAT(PageLinks("[b](b.md#two-things)"),
              ElementsAre(HasSubstr("no such heading: b.md#two-things")));
}

TEST(LinkRule, SkipsCode) {
  EXPECT_THAT(PageLinks("`[c](c.md)`\n```\n[c](c.md)\n```\n"), IsEmpty());
}

TEST(DocsIndexRule, FindsAPageThatNobodyLinks) {
  const TextFile index = {"docs/README.md", "[a](a.md#x)"};
  EXPECT_THAT(CheckDocsIndex({index, {"docs/a.md", ""}}), IsEmpty());
  EXPECT_THAT(CheckDocsIndex({index, {"docs/a.md", ""}, {"docs/b.md", ""}}),
              ElementsAre("docs/b.md:1: not linked from docs/README.md"));
}

TEST(ProtoRule, WantsACommentOnEveryDeclaration) {
  EXPECT_THAT(CheckProtoComments({"a.proto",
                                  "// A message.\n"
                                  "message M {\n"
                                  "  // A field.\n"
                                  "  repeated string a = 1;\n"
                                  "  map<string, int32> b = 2;  // Another.\n"
                                  "}\n"}),
              IsEmpty());
  EXPECT_THAT(CheckProtoComments({"a.proto",
                                  "// A message.\n"
                                  "message M {\n"
                                  "  string a = 1;\n"
                                  "  // B.\n"
                                  "  google.rpc.Status b = 2;\n"
                                  "  map<string, int32> c = 3;\n"
                                  "}\n"
                                  "enum E {\n"
                                  "  E_A = 1;\n"
                                  "}\n"
                                  "service S {\n"
                                  "  rpc Do(A) returns (B);\n"
                                  "}\n"}),
              ElementsAre("a.proto:3: no comment: string a = 1;",
                          "a.proto:6: no comment: map<string, int32> c = 3;",
                          "a.proto:8: no comment: enum E {",
                          "a.proto:9: no comment: E_A = 1;",
                          "a.proto:11: no comment: service S {",
                          "a.proto:12: no comment: rpc Do(A) returns (B);"));
}

TEST(ProtoRule, WantsZeroToBeUnspecified) {
  EXPECT_THAT(CheckEnumZeros({"a.proto", "  E_UNSPECIFIED = 0;\n  E_A = 1;"}),
              IsEmpty());
  EXPECT_THAT(CheckEnumZeros({"a.proto", "  E_NONE = 0;\n"}),
              ElementsAre("a.proto:1: E_NONE = 0 must be _UNSPECIFIED"));
}

TEST(UnfinishedRule, WantsAnIssue) {
  const std::string note = std::string("// TO") + "DO";
  EXPECT_THAT(CheckUnfinished({"a.cc", note + ": later\n"}),
              ElementsAre("a.cc:1: unfinished work without an issue"));
  EXPECT_THAT(CheckUnfinished({"a.cc", note + "(#12): later\n"}), IsEmpty());
}

TEST(ShellRule, WantsScriptsToStopAtTheFirstError) {
  EXPECT_THAT(
      CheckShellScript({"a.sh", "#!/usr/bin/env bash\nset -euo pipefail\n"}),
      IsEmpty());
  EXPECT_THAT(CheckShellScript({"a.sh", "#!/usr/bin/env bash\nset -e\n"}),
              ElementsAre(HasSubstr("pipefail")));
  EXPECT_THAT(CheckShellScript({"a.sh", "#!/bin/sh\n"}),
              ElementsAre(HasSubstr("#!/usr/bin/env bash")));
}

TEST(BuildRule, FindsASourceThatNoTargetCompiles) {
  const std::string_view commands = R"([{"file": "/r/tests/a_test.cc"}])";
  EXPECT_THAT(CheckSourcesAreBuilt({{"tests/a_test.cc", ""},
                                    {"tests/b_test.cc", ""},
                                    {"bench/c.cc", ""},
                                    {"tests/x/fixtures/d.cc", ""}},
                                   commands, "/r"),
              ElementsAre("tests/b_test.cc:1: is in no target of the build"));
}

TEST(KernelRule, AllowsTheTableOnly) {
  EXPECT_THAT(CheckKernelSymbols("k.o",
                                 "                 U memcpy\n"
                                 "0000000000000000 t _ZL3Dotv\n"
                                 "0000000000000010 r _ZL5kMask\n"
                                 "0000000000000020 D _ZN7vicinal6kTableE\n"),
              IsEmpty());
  EXPECT_THAT(CheckKernelSymbols("k.o",
                                 "0000000000000000 W _ZN1a3DotEv\n"
                                 "0000000000000010 T _ZN1a4ScanEv\n"
                                 "0000000000000020 u _ZN1a6kTableE\n"),
              ElementsAre("k.o: weak symbol _ZN1a3DotEv",
                          "k.o: global symbol _ZN1a4ScanEv",
                          "k.o: weak symbol _ZN1a6kTableE"));
}

TEST(ErrorRule, WantsEveryReasonExplained) {
  const TextFile page = {"docs/errors.md", "| `NOT_THERE` | gone |\n"};
  EXPECT_THAT(CheckErrorReasons({"e.cc", "return \"NOT_THERE\";"}, page),
              IsEmpty());
  EXPECT_THAT(CheckErrorReasons({"e.cc", "\n char k[] = \"FULL\";"}, page),
              ElementsAre("e.cc:2: FULL is not in docs/errors.md"));
}

}  // namespace
}  // namespace vicinal::architecture
