// What vicinald finds in the place of the NVIDIA driver in one test: a version.
extern "C" __attribute__((visibility("default"))) int cuDriverGetVersion(
    int* version) {
  *version = 10020;
  return 0;
}
