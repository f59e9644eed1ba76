#!/usr/bin/env bash
# build_pip_package [--src FOLDER] [--dst] FOLDER [--cpu | --rocm] [--nightly_flag] [--project_name NAME]
set -e

usage() {
    echo "usage: $0 [--src srcdir] [--dst] dstdir [--cpu|--rocm] [--nightly_flag] [--project_name name]"
    exit 1
}

absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/${1#./}" ;; esac; }

src='' dst='' name='' flavour='' nightly=''
while [ $# -gt 0 ]; do
    case $1 in
        --help) usage ;;
        --src) src=$(absolute "$2"); shift ;;
        --dst) dst=$(absolute "$2"); shift ;;
        --project_name) name=$2; shift ;;
        --cpu) flavour="${flavour}_cpu" ;;
        --rocm) flavour="${flavour}_rocm" ;;
        --nightly_flag) nightly=1 ;;
        -*) usage ;;
        *) dst=$(absolute "$1") ;;
    esac
    shift
done
if [ "$flavour" = _cpu_rocm ] || [ "$flavour" = _rocm_cpu ]; then
    echo 'Only one of [--cpu, --rocm] may be provided.'
    usage
fi
if [ -z "$src$dst" ]; then
    echo 'No destination dir provided'
    usage
fi
if [ ! -d bazel-bin/tensorflow ]; then
    echo 'Could not find bazel-bin.  Did you run from the root of the build tree?'
    exit 1
fi

made=''
if [ -z "$src" ]; then
    src=$(mktemp -d -t tmp.XXXXXXXXXX)
    made=$src
    trap 'rm -rf "$made"' EXIT
fi
runfiles=bazel-bin/tensorflow/tools/pip_package/build_pip_package.runfiles/org_tensorflow
echo "$(date) : === Preparing sources in dir: $src"
mkdir -p "$src"
cp -LR "$runfiles/tensorflow" "$src"
rm -rf "$src/tensorflow/tools"
cp "$runfiles/tensorflow/tools/pip_package/setup.py" "$src"
chmod -R u+w "$src"
[ -n "$dst" ] || exit 0

if [ -z "$name" ]; then
    name="${nightly:+tf_nightly}"
    name="${name:-tensorflow}$flavour"
fi
[ ! -e tools/python_bin_path.sh ] || . tools/python_bin_path.sh
echo "$(date) : === Building wheel"
(cd "$src" && "${PYTHON_BIN_PATH:-python3}" setup.py bdist_wheel --project_name "$name" >/dev/null)
mkdir -p "$dst"
cp "$src"/dist/*.whl "$dst"
echo "$(date) : === Output wheel file is in: $dst"
