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

FROM scratch AS environment
# From a whole root, so that folders above the environment keep their times too: two builds give the same layer.
COPY --from=build /rootfs/ /
ENV PATH="/opt/provision/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    VIRTUAL_ENV="/opt/provision/venv"
