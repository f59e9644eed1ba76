#!/bin/sh
# Prints every reading that provision needs of a host, in one go. Changes nothing, needs no root and no Python.
#
#   cat probe_nvidia.sh probe.sh | sh -s -- BOUNDARY [no-nvidia-smi|-] [ROOT]
#
# Each reading is a frame: a line "BOUNDARY NAME [STATUS]", the text, a line end. BOUNDARY is random, so that no text can
# pretend to be a frame. The last frame is called "end". Names and formats: CONTRIBUTING.md, and provision/detect/.
# ROOT is a folder that stands for / (for tests: a machine made of files).
# What NVIDIA's software has to say is read by probe_nvidia.sh, whose text comes before this one (run/probe.py).
# Written for dash and busybox ash. Small files are read by the shell itself: a fork costs more than all of them.

# shellcheck disable=SC2015  # "a && b || continue" is meant
boundary=${1:?usage: sh probe.sh BOUNDARY [no-nvidia-smi|-] [ROOT]}
skip=${2:-}
root=${3:-}
LC_ALL=C
PATH=${PATH:-/usr/local/bin:/usr/bin:/bin}:/usr/sbin:/sbin:/usr/lib/wsl/lib
export LC_ALL PATH
exec 2>/dev/null

has() { command -v "$1" >/dev/null; }
frame() { printf '%s %s\n' "$boundary" "$*"; }
finish() { printf '\n'; }

# reading NAME FILE: a small file, by the shell itself
reading() {
  [ -r "$2" ] || return 0
  frame "$1"
  while IFS= read -r line || [ -n "$line" ]; do printf '%s\n' "$line"; done <"$2"
  finish
}

# command_reading NAME COMMAND...: what it prints, error text included, with its exit status
command_reading() {
  name=$1
  shift
  output=$("$@" 2>&1)
  frame "$name" "$?"
  printf '%s\n' "$output"
  finish
}

patiently() {
  if has timeout; then timeout 30 "$@"; else "$@"; fi
}

cpu() {
  [ -r "$root"/proc/cpuinfo ] || return 0
  frame proc_cpuinfo
  cat "$root"/proc/cpuinfo
  finish
  case $system in
    *x86_64* | *i?86*) ;;
    *) # x86 tells its cores in cpuinfo, the others do not
      frame sys_cpu_topology
      for folder in "$root"/sys/devices/system/cpu/cpu[0-9]*/topology; do
        read -r package <"$folder/physical_package_id" && read -r core <"$folder/core_id" || continue
        number=${folder%/topology}
        printf '%s %s %s\n' "${number##*/cpu}" "${package#-}" "$core"
      done
      finish
      ;;
  esac
}

memory() {
  [ -r "$root"/proc/meminfo ] || return 0
  frame proc_meminfo
  { for _ in 1 2 3; do read -r line && printf '%s\n' "$line"; done; } <"$root"/proc/meminfo
  finish
}

operating_system() {
  reading proc_version "$root"/proc/version
  frame uname_a
  # "Linux 6.1.0 #1 SMP x86_64": the host's name stays at home
  printf '%s host %s\n' "${system%% *}" "${system#* }"
  finish
  if [ -r "$root"/etc/os-release ]; then reading os_release "$root"/etc/os-release; else reading os_release "$root"/usr/lib/os-release; fi
  [ -r "$root"/etc/os-release ] || reading etc_redhat_release "$root"/etc/redhat-release
  reading etc_nv_tegra_release "$root"/etc/nv_tegra_release
  if libc=$(getconf GNU_LIBC_VERSION); then
    frame glibc
    printf '%s\n' "$libc"
    finish
  else
    for loader in "$root"/lib/ld-musl-*; do
      [ -e "$loader" ] || continue
      frame glibc
      printf 'musl\n'
      finish
      break
    done
  fi
  if count=$(getconf _NPROCESSORS_ONLN); then
    frame nproc
    printf '%s\n' "$count"
    finish
  fi
}

secure_boot() {
  variables="$root"/sys/firmware/efi/efivars
  variable="$variables"/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
  shim="$variables"/MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23 # validation that was switched off there
  if [ -r "$variable" ]; then
    if has mokutil; then command_reading mokutil_sb_state mokutil --sb-state; fi
    frame efi_secure_boot
    od -An -tu1 "$variable" 2>&1
    [ -r "$shim" ] && printf 'shim' && od -An -tu1 "$shim"
    finish
  elif [ -d "$root"/sys/firmware/acpi ] && [ ! -d "$root"/sys/firmware/efi ] && [ "$inside" = none ]; then
    frame efi_secure_boot
    printf 'bios\n'
    finish
  fi
}

# Evidence of a container, the plainest first
container() {
  inside=none
  if [ -e "$root"/.dockerenv ]; then
    inside=docker
  elif [ -e "$root"/run/.containerenv ]; then
    inside=podman
  elif [ -r "$root"/run/systemd/container ]; then
    read -r inside <"$root"/run/systemd/container
  elif [ -n "${container:-}" ]; then
    inside=$container
  elif [ -r "$root"/proc/1/cgroup ]; then
    while IFS= read -r line; do
      case $line in
        */docker/* | */docker-*) inside=docker ;;
        */kubepods*) inside=kubernetes ;;
        */lxc/* | */lxc.payload*) inside=lxc ;;
        */containerd*) inside=containerd ;;
      esac
    done <"$root"/proc/1/cgroup
  fi
  case $system in Linux*) frame container && printf '%s\n' "$inside" && finish ;; esac
}

# NVIDIA's functions on the bus: "0000:01:00.0 10de:1401 030000 nouveau"
pci() {
  wanted=
  [ -d "$root"/sys/bus/pci/devices ] || return 0
  frame sys_bus_pci_devices
  for folder in "$root"/sys/bus/pci/devices/*; do
    read -r vendor <"$folder/vendor" && [ "$vendor" = 0x10de ] || continue
    read -r device <"$folder/device"
    read -r class <"$folder/class"
    driver=-
    if [ -e "$folder/driver" ]; then
      driver=$(cd -P "$folder/driver" && printf '%s' "${PWD##*/}")
    fi
    printf '%s 10de:%s %s %s\n' "${folder##*/}" "${device#0x}" "${class#0x}" "${driver:--}"
    wanted="$wanted ${device#0x}"
  done
  finish
  [ -n "$wanted" ] || return 0
  for table in "$root"/usr/share/misc/pci.ids "$root"/usr/share/hwdata/pci.ids "$root"/var/lib/pciutils/pci.ids; do
    [ -r "$table" ] || continue
    frame pci_ids
    awk -v wanted="$wanted" '
      BEGIN { count = split(wanted, list, " "); for (i = 1; i <= count; i++) want[list[i]] = 1 }
      /^10de/ { inside = 1; print; next }
      inside && /^[0-9a-f]/ { exit }
      inside && /^\t[0-9a-f]/ && (substr($0, 2, 4) in want) { print }
    ' "$table"
    finish
    break
  done
}

driver() {
  if [ -r "$root"/proc/modules ]; then
    frame proc_modules
    grep -E '^(nvidia|nouveau)' "$root"/proc/modules
    finish
  fi
  reading proc_driver_nvidia_version "$root"/proc/driver/nvidia/version
  for folder in "$root"/proc/driver/nvidia/gpus/*; do
    [ -d "$folder" ] || continue
    address=${folder##*/}
    address="${address%%:*}-${address#*:}"
    address="${address%%:*}-${address#*:}"
    reading "proc_driver_nvidia_gpus_${address}_information" "$folder/information"
  done
  if [ "$skip" != no-nvidia-smi ]; then
    if has nvidia-smi; then
      command_reading nvidia_smi_q.xml patiently nvidia-smi -q -x
    else
      frame nvidia_smi_q.xml 127
      printf 'nvidia-smi: not found\n'
      finish
    fi
  fi
}

toolkit() {
  for nvcc in "$(command -v nvcc)" "$root"/usr/local/cuda/bin/nvcc; do
    [ -x "$nvcc" ] || continue
    command_reading nvcc_version "$nvcc" --version
    break
  done
  for header in "$root"/usr/include/cudnn_version.h "$root"/usr/include/*-linux-gnu/cudnn_version*.h \
    "$root"/usr/local/cuda/include/cudnn_version.h; do
    [ -r "$header" ] || continue
    frame cudnn_version
    grep -E '^#define CUDNN_(MAJOR|MINOR|PATCHLEVEL)' "$header"
    finish
    break
  done
}

# "3.11.2 /usr/bin/python3.11" of each interpreter. Scripts (pyenv's shims) are passed over: starting one takes longer
# than all the rest, and what they start depends on the folder one stands in.
pythons() {
  frame pythons
  known=
  IFS=:
  set -f
  for folder in $PATH:/usr/bin:/usr/local/bin; do
    set +f
    unset IFS
    case $folder in /*) ;; *) continue ;; esac
    for python in "$folder"/python3 "$folder"/python3.[0-9] "$folder"/python3.[0-9][0-9]; do
      [ -x "$python" ] && [ -f "$python" ] || continue
      # shellcheck disable=SC3013  # -ef is in POSIX since 2024, and in both shells
      for other in $known; do [ "$python" -ef "$other" ] && continue 2; done
      IFS= read -r first <"$python"
      case $first in '#!'*) continue ;; esac
      case $python in *[[:space:]]*) ;; *) known="$known $python" ;; esac
      version=$("$python" -V) || continue
      printf '%s %s\n' "${version#Python }" "$python"
    done
  done
  finish
}

# One C compiler with a C++ compiler beside it: "/usr/bin/gcc-12 12.2.0", "/usr/lib/llvm-16/bin/clang Debian clang
# version 16.0.6 (…)". Clang by its real path, which configure scripts write down. Wrappers (ccache, scripts) say nothing.
compiler() {
  real=$(readlink -f "$1") || real=$1
  case ${real##*/} in *ccache* | *distcc*) return 0 ;; esac
  IFS= read -r first <"$real"
  case $first in '#!'*) return 0 ;; esac
  name=${1##*/}
  case $name in
    gcc*)
      [ -x "${1%/*}/g++${name#gcc}" ] && version=$("$1" -dumpfullversion) || return 0
      found=$1
      ;;
    *)
      base=${real##*/}
      [ -x "${real%/*}/clang++${base#clang}" ] && version=$("$real" --version) || return 0
      found=$real
      ;;
  esac
  printf '%s %s\n' "$found" "${version%%
*}"
}

# GCC and Clang on PATH, all asked at once. Those with a number in their name come first, because the plain name means
# another one after an upgrade.
compilers() {
  case $system in Darwin*) return 0 ;; esac # its gcc is Clang
  known=
  IFS=:
  set -f
  for folder in $PATH:/usr/bin:/usr/local/bin; do
    set +f
    unset IFS
    case $folder in /*) ;; *) continue ;; esac
    for one in "$folder"/gcc-[0-9] "$folder"/gcc-[0-9][0-9] "$folder"/gcc "$folder"/clang-[0-9] "$folder"/clang-[0-9][0-9] \
      "$folder"/clang; do
      [ -x "$one" ] && [ -f "$one" ] || continue
      # shellcheck disable=SC3013
      for other in $known; do [ "$one" -ef "$other" ] && continue 2; done
      case $one in *[[:space:]]*) continue ;; esac
      known="$known $one"
      compiler "$one" &
    done
  done
  wait
}

# Variables that change what NumPy, TensorFlow, PyTorch or JAX do, whoever set them
user_environment() {
  frame user_environment
  for name in ATEN_CPU_CAPABILITY BLIS_ARCH_TYPE CUDAHOSTCXX CUDA_DEVICE_ORDER CUDA_FORCE_PTX_JIT CUDA_HOME \
    CUDA_LAUNCH_BLOCKING CUDA_MODULE_LOADING CUDA_PATH CUDA_VISIBLE_DEVICES LD_LIBRARY_PATH LD_PRELOAD \
    MKL_DEBUG_CPU_TYPE MKL_ENABLE_INSTRUCTIONS MKL_NUM_THREADS NCCL_DEBUG NCCL_P2P_DISABLE NCCL_SOCKET_IFNAME \
    NPY_DISABLE_CPU_FEATURES NVIDIA_TF32_OVERRIDE NVIDIA_VISIBLE_DEVICES OMP_NUM_THREADS ONEDNN_MAX_CPU_ISA \
    OPENBLAS_CORETYPE OPENBLAS_NUM_THREADS PYTHONHOME PYTHONPATH PYTORCH_CUDA_ALLOC_CONF PYTORCH_ALLOC_CONF \
    TF_ENABLE_ONEDNN_OPTS TF_FORCE_GPU_ALLOW_GROWTH TF_XLA_FLAGS TORCH_CUDA_ARCH_LIST XLA_FLAGS \
    XLA_PYTHON_CLIENT_MEM_FRACTION XLA_PYTHON_CLIENT_PREALLOCATE; do
    eval "value=\${$name-}"
    [ -z "$value" ] || printf '%s=%s\n' "$name" "$value"
  done
  finish
}

# The file's text without its line ends, or "-"
on_one_line() {
  if [ -r "$1" ]; then
    tr -d '\r\n' <"$1" # a plan has tens of kilobytes: the shell would read them byte by byte
    printf '\n'
  else
    printf '%s\n' -
  fi
}

# One line per environment, generation and its packages: see provision/detect/environments.py
environments() {
  case ${XDG_DATA_HOME:-} in
    /*) home=$XDG_DATA_HOME ;;
    *) home=${HOME:-}/.local/share ;;
  esac
  frame environments
  for environment in "$home"/provision/envs/*; do
    [ -d "$environment/generations" ] || continue
    printf 'env %s %s\n' "${environment##*/}" "$environment"
    current=
    if [ -d "$environment/current" ]; then
      current=$(cd -P "$environment/current" && printf '%s' "${PWD##*/}")
      printf 'current %s\n' "$current"
    fi
    for generation in "$environment"/generations/[1-9]*; do
      [ -d "$generation" ] || continue
      number=${generation##*/}
      printf 'generation %s ' "$number"
      on_one_line "$generation/state.json"
      if [ "$number" = "$current" ]; then
        printf 'plan %s ' "$number"
        on_one_line "$generation/plan.json"
      fi
      runs=no
      [ ! -x "$generation/venv/bin/python" ] || runs=yes
      printf 'python %s %s\n' "$number" "$runs"
      printf 'packages %s' "$number"
      for package in "$generation"/venv/lib/python3*/site-packages/*.dist-info; do
        [ -e "$package" ] || continue
        package=${package##*/}
        printf ' %s' "${package%.dist-info}"
      done
      printf '\n'
    done
  done
  finish
  frame data_home
  printf 'data_home %s\n' "$home/provision"
  existing=$home/provision
  while [ -n "$existing" ] && [ ! -d "$existing" ]; do existing=${existing%/*}; done
  if [ -w "${existing:-/}" ]; then printf 'home_writable yes\n'; else printf 'home_writable no\n'; fi
  df -Pk "${existing:-/}" | { read -r _ && read -r line && printf 'df %s\n' "$line"; }
  finish
}

macos() {
  frame sysctl
  sysctl hw machdep.cpu kern.hv_vmm_present
  finish
  if has sw_vers; then command_reading sw_vers sw_vers; fi
}

system=$(uname -srvm)
wanted=
# A Clang takes 40 ms to say its version, longer than all the rest: it is asked first, and heard last
compilers | {
  exec 3<&0 </dev/null
  cpu
  memory
  operating_system
  container
  secure_boot
  pci
  if concerns_nvidia; then nvidia_software driver; else driver; fi
  toolkit
  pythons
  user_environment
  environments
  case $system in Darwin*) macos ;; esac
  frame compilers
  cat <&3
  finish
  frame end
}
