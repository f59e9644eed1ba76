/* Stands in for NVIDIA's kernel module: nothing that runs, but an ELF file whose .modinfo says what modinfo reads. */
#define INFO(id, text) static const char info_##id[] __attribute__((section(".modinfo"), used, aligned(1))) = text

INFO(version, "version=" DRIVER_VERSION);
INFO(license, "license=" DRIVER_LICENSE);
INFO(vermagic, "vermagic=" VERMAGIC);
INFO(name, "name=" MODULE_NAME);
INFO(depends, "depends=" MODULE_DEPENDS);
INFO(supported, "supported=external");
#ifdef MODULE_IS_DRIVER
INFO(alias_vga, "alias=pci:v000010DEd*sv*sd*bc03sc00i00*");
INFO(alias_3d, "alias=pci:v000010DEd*sv*sd*bc03sc02i00*");
INFO(firmware, "firmware=nvidia/" DRIVER_VERSION "/gsp_ga10x.bin");
#endif

/* @FAULT@ */
int init_module(void) { return 0; }
void cleanup_module(void) {}
