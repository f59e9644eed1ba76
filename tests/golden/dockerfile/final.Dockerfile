# A temporary tag that this call made, of an environment that was proved: it has no digest in any registry.
# hadolint ignore=DL3006
FROM provision-build:1-0 AS final
LABEL "io.provision.cpu"="x86-64-v3" \
    "io.provision.cpu-flags"="abm,avx,avx2,bmi1,bmi2,cx16,f16c,fma,lahf_lm,movbe,pni,popcnt,sse4_1,sse4_2,ssse3,xsave" \
    "io.provision.cpu-level"="x86-64-v3" \
    "io.provision.device"="cpu" \
    "io.provision.frameworks"="numpy 2.4.6" \
    "io.provision.minimal"="false" \
    "io.provision.origin"="wheel" \
    "io.provision.plan"="6634f425222273a9f0309fdb2e95ab43a0278717013a3eaf3286ad10ce284a75" \
    "io.provision.python"="3.11" \
    "io.provision.schema"="1" \
    "io.provision.stack"="[{\"framework\":\"numpy\",\"version\":\"2.4.6\",\"origin\":\"wheel\",\"python\":\"3.11\",\"device\":\"cpu\",\"build\":\"cpu\",\"index\":null,\"index_url\":null,\"requirements\":[\"numpy==2.4.6\"],\"cuda\":null,\"cudnn\":null,\"driver\":null,\"compute_capabilities\":[],\"copts\":[],\"bazel\":null,\"compiler\":null,\"environment\":{}}]" \
    "io.provision.verdict"="{\"status\":\"passed\"}" \
    "org.example.note"="it's a \"label\" for \$HOME" \
    "org.opencontainers.image.base.name"="debian:bookworm" \
    "org.opencontainers.image.created"="2023-11-14T22:13:20Z" \
    "org.opencontainers.image.title"="numpy 2.4.6 (cpu, x86-64-v3)" \
    "org.opencontainers.image.version"="2.4.6"
# An archive of one file: COPY would give the folders above it the time of the build.
ADD cpu.tar /
HEALTHCHECK --interval=60s --timeout=10s --start-period=10s --retries=3 CMD ["/opt/provision/bin/healthcheck"]
ENTRYPOINT ["/usr/bin/tini", "--", "/opt/provision/bin/entrypoint"]
CMD ["python3"]
WORKDIR /work
USER 1000:1000
# The one layer that may differ between two builds: folders above what is copied get the time of the build.
COPY --chown=1000:1000 ["copied/0/", "/work/"]
COPY --chown=1000:1000 ["copied/1", "/work/my data"]
