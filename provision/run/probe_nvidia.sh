# What the probe reads of NVIDIA's software: functions that probe.sh calls. run/probe.py puts this text before it.
# Only where a GPU of NVIDIA's is on the bus or something of NVIDIA's is installed: other hosts pay a few tests of files.
# What needs root, and what is not there, is left out. Slow commands have a time limit each and run beside the others.

# shellcheck shell=sh disable=SC2015,SC2154  # "a && b || continue" is meant; root, wanted, boundary … are probe.sh's

limited() { # limited SECONDS COMMAND...
  if has timeout; then timeout "$@"; else
    shift
    "$@"
  fi
}

# Whether there is anything to read at all. In WSL2 no card is on the bus.
concerns_nvidia() {
  [ -z "$wanted" ] || return 0
  for trace in "$root"/dev/nvidiactl "$root"/proc/driver/nvidia/version "$root"/var/lib/provision/nvidia.json \
    "$root"/usr/bin/nvidia-smi "$root"/usr/bin/nvidia-ctk "$root"/usr/bin/nvidia-persistenced \
    "$root"/usr/bin/nvidia-uninstall "$root"/var/lib/dkms/nvidia "$root"/usr/lib/*-linux-gnu/libcuda.so.1 \
    "$root"/usr/lib64/libcuda.so.1 "$root"/usr/lib/wsl/lib/libcuda.so.1; do
    [ -e "$trace" ] && return 0
  done
  return 1
}

# "0000:01:00.0 8.0GT/s 16 16.0GT/s 16": speed and width now, then the card's own most; "-" where sysfs has none
links() {
  frame sys_pci_links
  for folder in "$root"/sys/bus/pci/devices/*; do
    read -r vendor <"$folder/vendor" && [ "$vendor" = 0x10de ] || continue
    read -r class <"$folder/class"
    case $class in 0x0300* | 0x0302*) ;; *) continue ;; esac
    printf '%s' "${folder##*/}"
    for name in current_link_speed current_link_width max_link_speed max_link_width; do
      value=
      read -r value <"$folder/$name" # "16.0 GT/s PCIe", "Unknown"
      case $value in
        [0-9]*' GT/s'*) value=${value%% *}GT/s ;;
        [0-9]*) ;;
        *) value=- ;;
      esac
      printf ' %s' "$value"
    done
    printf '\n'
  done
  finish
}

# --- packages: in a process of their own, because apt takes half a second to read its lists ---------------------------

nvidia_packages() {
  if has dpkg-query; then
    dpkg_packages
    apt_candidates
  elif has rpm; then
    rpm_packages
    dnf_candidates
  fi
  if has dkms; then command_reading dkms_status limited 20 dkms status; fi
  for log in "$root"/var/lib/dkms/nvidia*/*/build/make.log; do
    [ -r "$log" ] || continue # it is there after a build that failed, and gone after one that did not
    frame dkms_make_log
    tail -n 60 "$log"
    finish
    break
  done
}

OURS='nvidia|cuda|libcudnn|cudnn'

dpkg_packages() {
  # "ii  nvidia-driver 535.261.03-1": wanted and found state, name, version
  # shellcheck disable=SC2016  # dpkg's own words
  all=$(limited 10 dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\n') || return 0
  frame packages_nvidia
  printf '%s\n' "$all" | grep -E "^.[^n].? +[^ ]*($OURS)"
  finish
  frame package_holds
  printf '%s\n' "$all" | while read -r state package _; do
    case $state in h*) printf '%s\n' "$package" ;; esac
  done
  finish
}

# Names that provision asks about: every row of playbooks/roles/*/vars has its packages here (a test holds that).
apt_names() {
  releases=$(uname -r)
  for folder in "$root"/lib/modules/*; do [ -d "$folder" ] && releases="$releases|${folder##*/}"; done
  kernel=$(printf '%s' "$releases" | sed 's/[.+]/\\&/g')
  flavour=$(uname -r)
  flavour=${flavour##*-}
  branch='[0-9]+(-server)?(-open)?'
  grep -xE "nvidia-(driver|dkms|utils|compute-utils|headless|headless-no-dkms|kernel-common|kernel-source|firmware)-$branch\
|nvidia-(driver|smi|open|modprobe|persistenced|cuda-toolkit|driver-cuda|driver-pinning-[0-9.]+|open-[0-9]+)\
|nvidia-kernel-(open-)?dkms|nvidia-open-kernel-dkms|nvidia-tesla-([0-9]+-)?(driver|smi|kernel-dkms)\
|nvidia-legacy-[0-9]+xx-(driver|smi|kernel-dkms)|libnvidia-tesla-[0-9]+-cuda1|libcuda1|libnvidia-(ml1|compute-$branch)\
|nvidia-fabricmanager(-[0-9]+)?|firmware-nvidia-gsp|cuda-drivers(-[0-9]+)?|cuda-keyring|cuda-toolkit(-[0-9]+-[0-9]+)?\
|cudnn9?-cuda-[0-9]+|libcudnn[0-9]+(-dev|-headers)?(-cuda-[0-9]+|-dev-cuda-[0-9]+)?\
|nvidia-container-toolkit(-base)?|libnvidia-container(-tools|1)\
|linux-modules-nvidia-$branch-($kernel|$flavour)|linux-headers-($kernel|$flavour)|dkms|gcc|make|mokutil"
}

# Where apt would write its cache of the lists anew, which root's may, it is told to keep it in memory: half a second
apt_asks() {
  cache=$root/var/cache/apt/pkgcache.bin
  # shellcheck disable=SC3013  # -nt is in POSIX since 2024, and in both shells
  if [ "$(id -u)" != 0 ] || { [ "$cache" -nt "$root"/var/lib/dpkg/status ] && [ "$cache" -nt "$root"/var/lib/apt/lists ] &&
    [ "$cache" -nt "$root"/etc/apt/sources.list.d ]; }; then
    limited 20 apt-cache "$@"
  else
    limited 20 apt-cache -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "$@"
  fi
}

apt_candidates() {
  has apt-cache || return 0
  lists=
  for list in "$root"/var/lib/apt/lists/*_dists_*_Packages*; do
    [ -e "$list" ] && lists="$lists ${list##*_dists_}"
  done
  [ -n "$lists" ] || return 0 # nothing was ever fetched: that no package is known means nothing
  frame apt_lists
  for list in $lists; do printf '%s\n' "$list"; done
  finish
  # shellcheck disable=SC2046  # a word a name
  set -- $(apt_asks pkgnames | apt_names)
  if [ $# -gt 0 ]; then command_reading apt_policy apt_asks policy "$@"; else frame apt_policy && finish; fi
}

rpm_packages() {
  frame packages_nvidia
  limited 20 rpm -qa --qf 'ii %{NAME} %{VERSION}-%{RELEASE}\n' '*nvidia*' 'cuda*' '*cudnn*'
  finish
  frame package_holds
  for locks in "$root"/etc/dnf/plugins/versionlock.list "$root"/etc/dnf/versionlock.toml; do
    [ -r "$locks" ] && grep -vE '^[[:space:]]*(#|$)' "$locks"
  done
  finish
}

# dnf gives another user a cache of his own, so it is asked by root only, and of what is in the cache
dnf_candidates() {
  has dnf && [ "$(id -u)" = 0 ] || return 0
  command_reading dnf_candidates limited 20 dnf -q -C repoquery --available --latest-limit=1 \
    --qf '%{name} %{evr} %{repoid}\n' '*nvidia*' 'cuda-drivers*' 'cuda-toolkit*' '*cudnn*' 'kernel-devel*' \
    kernel-headers epel-release 'python3-dnf-plugin-versionlock' dkms gcc make mokutil
}

# --- the rest ---------------------------------------------------------------------------------------------------------

# What the module is called: NVIDIA's own name, then Debian's
MODULES='nvidia nvidia-current nvidia-current-open nvidia-tesla nvidia-tesla-470 nvidia-tesla-535 nvidia-legacy-390xx'

kernel_module() {
  kernel=$(uname -r)
  has modinfo && for name in $MODULES; do
    fields=$(limited 5 modinfo "$name") || continue
    frame modinfo_nvidia
    printf '%s\n' "$fields" | grep -E '^(filename|version|license|signer|vermagic):'
    finish
    frame modinfo_nvidia_vermagic
    printf '%s\n' "$fields" | grep '^vermagic:'
    finish
    break
  done
  frame kernel_headers
  if [ -e "$root/lib/modules/$kernel/build/Makefile" ]; then printf 'yes\n'; else printf 'no\n'; fi
  finish
  frame nvidia_nouveau_conf
  grep -H nouveau "$root"/etc/modprobe.d/*.conf "$root"/run/modprobe.d/*.conf "$root"/usr/lib/modprobe.d/*.conf \
    "$root"/lib/modprobe.d/*.conf
  read -r words <"$root"/proc/cmdline && for word in $words; do
    case $word in *nouveau* | nomodeset) printf 'cmdline: %s\n' "$word" ;; esac
  done
  finish
}

# "kernel RELEASE" for each that /boot and /lib/modules have, "default PATH" of grubby, GRUB's own words about its choice.
# "module RELEASE VERSION": NVIDIA's, for kernels that do not run now.
boot_kernels() {
  running=$(uname -r)
  frame boot_kernels
  for file in "$root"/boot/vmlinuz-* "$root"/boot/vmlinux-*; do
    release=${file##*/vmlinu[xz]-}
    [ -d "$root/lib/modules/$release" ] || continue
    printf 'kernel %s\n' "$release"
    [ "$release" != "$running" ] && has modinfo || continue
    for name in $MODULES; do
      built=$(limited 5 modinfo -k "$release" -F version "$name") && printf 'module %s %s\n' "$release" "$built" && break
    done
  done
  if has grubby; then default=$(limited 10 grubby --default-kernel) && printf 'default %s\n' "$default"; fi
  grep -hE '^[[:space:]]*GRUB_DEFAULT=' "$root"/etc/default/grub "$root"/etc/default/grub.d/*.cfg
  # "ID of the machine-5.14.0-427.el9.x86_64", "gnulinux-6.1.0-28-amd64-advanced-UUID of the disk"
  grep -haE '^(saved_entry|next_entry)=.' "$root"/boot/grub/grubenv "$root"/boot/grub2/grubenv |
    sed -E 's/[0-9a-f]{32}-//; s/-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}//g'
  finish
}

# The kernel's log is root's on many systems, and the journal has it for the group adm
kernel_log() {
  log=$(dmesg) || log=$(limited 10 journalctl -k -b -q --no-pager -o cat) || return 0
  [ -n "$log" ] || return 0
  frame dmesg_nvidia
  printf '%s\n' "$log" |
    grep -iE 'nvidia|nouveau|NVRM|secure ?boot|lockdown|locked down|fallen off the bus|vfio|AER: |PCIe Bus Error|available PCIe bandwidth|trap invalid opcode|Out of memory: Killed|oom-kill|unsigned module|unavailable key' |
    grep -vE 'Command line:|Modules linked in|X\.509' | tail -n 200
  finish
}

driver_files() {
  frame nvidia_libraries
  for folder in "$root"/usr/lib/*-linux-gnu "$root"/usr/lib/*-linux-gnu/nvidia/* "$root"/usr/lib64 "$root"/usr/lib \
    "$root"/usr/lib/nvidia* "$root"/usr/lib/nvidia/*; do
    for library in "$folder"/libnvidia-ml.so.[1-9]*.* "$folder"/libcuda.so.[1-9]*.*; do
      [ -f "$library" ] && [ ! -h "$library" ] && printf '%s\n' "${library#"$root"}"
    done
  done
  finish
  frame dev_nvidia
  for file in "$root"/dev/nvidia*; do [ -e "$file" ] && printf '%s\n' "${file##*/}"; done
  finish
  frame driver_installs
  for file in /usr/bin/nvidia-uninstall /usr/local/bin/nvidia-uninstall; do
    [ -e "$root$file" ] && printf 'runfile %s\n' "$file"
  done
  for file in "$root"/etc/apt/sources.list.d/lambda*.list "$root"/etc/apt/sources.list.d/lambda*.sources; do
    [ -e "$file" ] && printf 'lambda %s\n' "${file#"$root"}"
  done
  finish
  reading provision_nvidia_record "$root"/var/lib/provision/nvidia.json
  reading boot_id "$root"/proc/sys/kernel/random/boot_id
}

mount_points() {
  frame disk_free
  set -- "$root/"
  for folder in boot var; do [ -d "$root/$folder" ] && set -- "$@" "$root/$folder"; done
  limited 10 df -Pk "$@" | {
    read -r _
    for folder; do
      read -r line && folder=${folder#"$root"} && printf '%s %s\n' "$folder" "$line"
    done
  }
  finish
}

# Programs that draw on a screen hold the driver; comm is cut to 15 characters
desktop() {
  persistenced=absent
  [ -x "$root"/usr/bin/nvidia-persistenced ] && persistenced=inactive
  seen=' '
  frame display
  for file in "$root"/proc/[0-9]*/comm; do
    read -r program <"$file" || continue
    case $program in
      Xorg | X | Xwayland | gdm | gdm3 | sddm | lightdm | lxdm | xdm | gnome-shell | kwin_x11 | kwin_wayland | plasmashell | \
        mutter | cinnamon | xfwm4 | weston | sway | Hyprland | kodi.bin | gamescope)
        case $seen in *" $program "*) ;; *) printf '%s\n' "$program" ;; esac
        seen="$seen$program "
        ;;
      nvidia-persiste*) persistenced=active ;;
    esac
  done
  finish
  if [ "$persistenced" = inactive ] && has systemctl; then
    [ "$(limited 5 systemctl is-active nvidia-persistenced.service)" = active ] && persistenced=active ||
      { [ "$(limited 5 systemctl is-enabled nvidia-persistenced.service)" = enabled ] && persistenced=enabled; }
  fi
  frame nvidia_persistenced
  printf '%s\n' "$persistenced"
  finish
}

# What may change the driver unasked, and what waits for a reboot
upkeep() {
  frame unattended_upgrades
  if [ -x "$root"/usr/bin/unattended-upgrade ]; then
    printf 'program unattended-upgrade\n'
    cat "$root"/etc/apt/apt.conf.d/* | grep -E '^[[:space:]]*APT::Periodic::(Unattended-Upgrade|Enable)[[:space:]]'
  fi
  for file in "$root"/etc/systemd/system/timers.target.wants/dnf*automatic*.timer; do
    [ -e "$file" ] || [ -h "$file" ] || continue
    printf 'timer %s\n' "${file##*/}"
    grep -E '^[[:space:]]*apply_updates' "$root"/etc/dnf/automatic.conf
  done
  finish
  frame reboot_required
  if [ -e "$root"/run/reboot-required ]; then
    printf 'yes\n'
    cat "$root"/run/reboot-required.pkgs
  elif has needs-restarting && [ "$(id -u)" = 0 ]; then
    limited 20 needs-restarting -r >&2 # 1: a reboot is due
    case $? in 0) printf 'no\n' ;; 1) printf 'yes\n' ;; esac
  else
    printf 'no\n'
  fi
  finish
}

# "pending 1" keys that wait for the console; "key PATH: what mokutil says of it", of the keys that DKMS and akmods use
owner_keys() {
  [ -d "$root"/sys/firmware/efi ] && has mokutil || return 0
  waiting=$(limited 5 mokutil --list-new) || waiting=
  frame mok_state
  printf 'pending %s\n' "$(printf '%s\n' "$waiting" | grep -c 'SHA1 Fingerprint')"
  for key in /var/lib/shim-signed/mok/MOK.der /var/lib/dkms/mok.pub /etc/pki/akmods/certs/public_key.der; do
    [ -r "$root$key" ] && printf 'key %s: %s\n' "$key" "$(limited 5 mokutil --test-key "$root$key" 2>&1)"
  done
  finish
}

# "docker /usr/bin/docker", "runtime nvidia" where its configuration knows it
containers() {
  frame docker_nvidia
  if has docker; then
    printf 'docker %s\n' "$(command -v docker)"
    grep -qE '"nvidia"[[:space:]]*:|nvidia-container-runtime' "$root"/etc/docker/daemon.json \
      "${HOME:-/nonexistent}"/.config/docker/daemon.json && printf 'runtime nvidia\n'
  fi
  finish
  if has nvidia-ctk; then command_reading nvidia_ctk_version limited 10 nvidia-ctk --version; fi
}

# nvidia_software COMMAND: all of it, with the command's readings among it
nvidia_software() {
  nvidia_packages | {
    exec 4<&0 </dev/null
    links
    kernel_module
    boot_kernels
    kernel_log
    driver_files
    mount_points
    desktop
    upkeep
    owner_keys
    containers
    "$@"
    cat <&4
  }
}
