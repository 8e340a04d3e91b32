// The parts of CLI11 whose classes are made in every file that sees their
// header, in this one. Programs see CLI/App.hpp.
#include "CLI/CLI.hpp"
