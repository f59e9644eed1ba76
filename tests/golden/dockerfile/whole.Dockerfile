# The environment of numpy 2.4.6 (cpu), by provision.
FROM debian:bookworm AS packages
# The base image may have another user; the last stage has an ordinary one.
# hadolint ignore=DL3002
USER 0:0
# Versions of packages are the base image's own releases: one named here is gone from the mirror after its next update.
# What came is gathered below /rootfs, for the next stage to copy: a layer that RUN leaves holds times of the build (of
# /etc, which the engine mounts files in, and of whatever is removed). Nothing is newer than the epoch, but for Python's
# own modules, which have their package's time: their byte code names it.
# hadolint ignore=DL3008
RUN set -eu; \
    touch /tmp/begun; \
    export DEBIAN_FRONTEND=noninteractive PYTHONHASHSEED=0; \
    apt-get update; \
    apt-get install -y --no-install-recommends python3 tini; \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/cache/ldconfig/* /var/log/apt \
        /var/log/dpkg.log /var/log/alternatives.log /var/lib/dpkg/*-old; \
    getent group 1000 >/dev/null || echo 'provision:x:1000:' >> /etc/group; \
    getent passwd 1000 >/dev/null || echo 'provision:x:1000:1000::/home/provision:/bin/sh' >> /etc/passwd; \
    mkdir -p /rootfs /home/provision /work; \
    chown 1000:1000 /home/provision /work; \
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /rootfs -o -path /etc/hosts \
        -o -path /etc/hostname -o -path /etc/resolv.conf -o -path '/usr/share/doc/*/changelog*' \) -prune \
        -o -cnewer /tmp/begun ! -type d -exec cp -a --parents -t /rootfs {} +; \
    cp -a --parents -t /rootfs /home/provision /work; \
    find /rootfs -newermt '@1700000000' ! -path '/rootfs/usr/lib/python3*.py' \
        ! -path '/rootfs/etc/python3*.py' -exec touch -h -d '@1700000000' {} +

FROM debian:bookworm AS python
COPY --from=packages /rootfs/ /

FROM python AS build
# hadolint ignore=DL3002
USER 0:0
# hadolint ignore=DL3008
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends binutils \
 && rm -rf /var/lib/apt/lists/*
COPY environment/ /build/
RUN UV_NO_CACHE=1 sh /build/make

FROM python AS environment
# From a whole root, so that folders above the environment keep their times too: two builds give the same layer.
COPY --from=build /rootfs/ /
ENV PATH="/opt/provision/venv/bin:$PATH" \
    VIRTUAL_ENV="/opt/provision/venv"

FROM environment AS final
LABEL "io.provision.cpu"="generic" \
    "io.provision.cpu-flags"="cx16,lahf_lm,pni,popcnt,sse4_1,sse4_2,ssse3" \
    "io.provision.cpu-level"="x86-64-v2" \
    "io.provision.device"="cpu" \
    "io.provision.frameworks"="numpy 2.4.6" \
    "io.provision.minimal"="false" \
    "io.provision.origin"="wheel" \
    "io.provision.plan"="6634f425222273a9f0309fdb2e95ab43a0278717013a3eaf3286ad10ce284a75" \
    "io.provision.python"="3.11" \
    "io.provision.schema"="1" \
    "io.provision.stack"="[{\"framework\":\"numpy\",\"version\":\"2.4.6\",\"origin\":\"wheel\",\"python\":\"3.11\",\"device\":\"cpu\",\"build\":\"cpu\",\"index\":null,\"index_url\":null,\"requirements\":[\"numpy==2.4.6\"],\"cuda\":null,\"cudnn\":null,\"driver\":null,\"compute_capabilities\":[],\"copts\":[],\"bazel\":null,\"compiler\":null,\"environment\":{}}]" \
    "org.opencontainers.image.base.name"="debian:bookworm" \
    "org.opencontainers.image.created"="2023-11-14T22:13:20Z" \
    "org.opencontainers.image.title"="numpy 2.4.6 (cpu, generic)" \
    "org.opencontainers.image.version"="2.4.6"
# An archive of one file: COPY would give the folders above it the time of the build.
ADD cpu.tar /
HEALTHCHECK --interval=60s --timeout=10s --start-period=10s --retries=3 CMD ["/opt/provision/bin/healthcheck"]
ENTRYPOINT ["/usr/bin/tini", "--", "/opt/provision/bin/entrypoint"]
CMD ["python3"]
WORKDIR /work
USER 1000:1000
