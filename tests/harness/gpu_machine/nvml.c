/* Stands in for libnvidia-ml.so and libcuda.so: a library with their soname and a version that can be asked for. */
const char provision_tests_version[] = DRIVER_VERSION;
