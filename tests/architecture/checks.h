// The rules of the house as functions over text, so that each is tested on a
// violation (checks_test.cc) before it judges the tree (repository_test.cc).
// Each returns one line per violation, "path:line: what is wrong"; none found:
// empty.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/architecture/repository.h"

namespace vicinal::architecture {

using Violations = std::vector<std::string>;
using PathPredicate = std::function<bool(const std::string&)>;

// Includes follow the arrows of ARCHITECTURE.md section 1, are written from
// the root and exist; foreign libraries stay in their folders; kernel files
// include next to nothing. `exists` answers for house headers.
Violations CheckIncludes(const TextFile& file, const PathPredicate& exists);

// A header begins with a comment that says what it holds, then #pragma once.
Violations CheckHeaderOpening(const TextFile& file);

// Relative links of a Markdown page lead to a file, and #fragments to a
// heading. `find` returns the page at a path, null when it is no page.
Violations CheckLinks(
    const TextFile& page, const PathPredicate& exists,
    const std::function<const TextFile*(const std::string&)>& find);

// Every page under docs/ is linked from docs/README.md.
Violations CheckDocsIndex(const std::vector<TextFile>& files);

// Every message, field, enum, enum value, service and rpc of a proto file has
// a comment above it or behind it.
Violations CheckProtoComments(const TextFile& proto);

// The value 0 of every enum is called ..._UNSPECIFIED.
Violations CheckEnumZeros(const TextFile& proto);

// Notes of unfinished work name their issue: "(#12)".
Violations CheckUnfinished(const TextFile& file);

// Shell scripts stop at the first error.
Violations CheckShellScript(const TextFile& script);

// Every .cc file outside bench/ and fixtures/ is compiled.
// compile_commands: the text of CMake's compile_commands.json; root: what it
// writes before the path of each file of the repository.
Violations CheckSourcesAreBuilt(const std::vector<TextFile>& files,
                                std::string_view compile_commands,
                                std::string_view root);

// Kernel objects export their table and nothing else; above all no weak
// symbol. nm: what `nm OBJECT` printed.
Violations CheckKernelSymbols(std::string_view object, std::string_view nm);

// Every ErrorInfo reason, a quoted UPPER_CASE string in `errors`, is
// explained in `page`.
Violations CheckErrorReasons(const TextFile& errors, const TextFile& page);

}  // namespace vicinal::architecture
