"""A masked dump tells no machine and no person apart, and reads back to the same facts."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.detect import host_facts
from provision.detect.mask import masked
from provision.model.chips import Chips
from provision.model.readings import Readings
from provision.run.dump import read_dump, write_dump

SECRETS = (
    "workstation-07",
    "1322521030245",
    "8f5b2c1a",
    "/home/alice",
    "aa:bb:cc:dd:ee:ff",
    "192.168.17.4",
    "0xd52bae2e",
)

PERSONAL = {
    "uname_a": "Linux workstation-07 6.8.0-60-generic #63~22.04.1-Ubuntu SMP x86_64 x86_64 x86_64 GNU/Linux\n",
    "nvidia_smi_L.txt": (
        "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-8f5b2c1a-1111-2222-3333-444455556666)\n"
        "  MIG 3g.40gb     Device  0: (UUID: MIG-8f5b2c1a-9999-2222-3333-444455556666)\n"
        "  MIG 2g.20gb     Device  1: (UUID: MIG-8f5b2c1a-8888-2222-3333-444455556666)\n"
    ),
    "nvidia_smi_q.txt": (
        "==============NVSMI LOG==============\n\nDriver Version      : 570.86.10\n\nAttached GPUs : 1\n"
        "GPU 00000000:01:00.0\n    Product Name                    : NVIDIA H100 80GB HBM3\n"
        "    Serial Number                   : 1322521030245\n"
        "    GPU UUID                        : GPU-8f5b2c1a-1111-2222-3333-444455556666\n"
        "    GPU PDI                         : 0xd52bae2e458244e2\n"
        "    VBIOS Version                   : 92.00.45.00.03\n"
        "    FB Memory Usage\n        Total                       : 81559 MiB\n"
        "    Processes\n            Name                    : /home/alice/venv/bin/python\n"
    ),
    "nvidia_smi_q.xml": (
        "<nvidia_smi_log><gpu id='00000000:01:00.0'><serial>1322521030245</serial>"
        "<pdi>0xd52bae2e458244e2</pdi><product_name>NVIDIA H100 80GB HBM3</product_name></gpu></nvidia_smi_log>\n"
    ),
    "nvidia_smi_query_gpu.csv": (
        "name, serial, uuid, pci.bus_id, driver_version, hostname\n"
        "NVIDIA H100 80GB HBM3, 1322521030245, GPU-8f5b2c1a-1111-2222-3333-444455556666, 00000000:01:00.0, "
        "570.86.10, workstation-07\n"
    ),
    "dmesg_nvidia": (
        "Jan  1 00:00:00 workstation-07 kernel: nvidia: loading out-of-tree module\n"
        "[    4.2] nvidia-net: eth0 aa:bb:cc:dd:ee:ff 192.168.17.4\n"
    ),
    "proc_version": "Linux version 6.8.0 (root@workstation-07) (gcc 13) #1 SMP\n",
    "pythons": "3.11.2 /home/alice/.local/bin/python3.11\n",
    "proc_cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nSerial\t\t: 1322521030245\n",
    "environments": "env default /home/alice/.local/share/provision/envs/default\n",
    "data_home": "data_home /home/alice/.local/share/provision\n",
}


def test_nothing_personal_is_left() -> None:
    shown = masked(Readings(PERSONAL))
    text = "\n".join(shown.files.values())
    for secret in SECRETS:
        assert secret not in text
    assert "environments" not in shown.files
    assert "data_home" not in shown.files


def test_devices_stay_apart_and_the_same() -> None:
    files = masked(Readings(PERSONAL)).files
    listed = files["nvidia_smi_L.txt"]
    assert listed.count("MIG-") == 2
    assert len(set(re.findall(r"MIG-[0-9-]+", listed))) == 2
    gpu = re.search(r"GPU-[0-9-]+", listed)[0]
    assert gpu in files["nvidia_smi_q.txt"]
    assert gpu in files["nvidia_smi_query_gpu.csv"]


def test_what_only_looks_like_an_address_stays() -> None:
    files = {
        "uname_a": "Linux host 6.6.87.2-microsoft-standard-WSL2 #1 SMP x86_64 GNU/Linux\n",
        "nvidia_smi_q.txt": "    VBIOS Version   : 92.00.45.00.03\n    Image Version   : G506.0200.00.04\n",
    }
    assert masked(Readings(files)).files == files


def test_masking_twice_is_masking_once() -> None:
    once = masked(Readings(PERSONAL))
    assert masked(once) == once


def test_a_masked_dump_reads_back_to_the_same_facts(shared: Path, chip_table: Chips, tmp_path: Path) -> None:
    for folder in sorted(path for path in (shared / "hosts").iterdir() if path.is_dir()):
        readings = read_dump(folder)
        write_dump(tmp_path / folder.name, masked(readings))
        again = read_dump(tmp_path / folder.name)
        assert host_facts(again, chip_table, host="a") == host_facts(readings, chip_table, host="a"), folder.name


def test_personal_readings_keep_their_facts(chip_table: Chips) -> None:
    readings = Readings(PERSONAL)
    before = host_facts(readings, chip_table, host="a")
    assert before.gpus[0].memory_mib == 81559
    assert before.gpus[0].mig is not None
    assert dataclasses.asdict(host_facts(masked(readings), chip_table, host="a")) == dataclasses.asdict(before)


NAMES = st.from_regex(r"[a-z][a-z0-9-]{2,20}[a-z0-9]", fullmatch=True).filter(lambda name: name != "host")
UUIDS = st.uuids().map(str)


@given(name=NAMES, uuid=UUIDS, serial=st.integers(10**9, 10**13).map(str))
def test_any_name_uuid_and_serial_goes(name: str, uuid: str, serial: str) -> None:
    files = {
        "uname_a": f"Linux {name} 6.1.0-9-amd64 #1 SMP x86_64 GNU/Linux\n",
        "nvidia_smi_q.txt": f"GPU 00000000:01:00.0\n    Serial Number : {serial}\n    GPU UUID : GPU-{uuid}\n",
    }
    shown = masked(Readings(files)).files
    assert shown["uname_a"] == "Linux host 6.1.0-9-amd64 #1 SMP x86_64 GNU/Linux\n"
    assert serial not in shown["nvidia_smi_q.txt"]
    assert uuid not in shown["nvidia_smi_q.txt"] or set(uuid) <= set("0-")


@pytest.mark.parametrize("text", ["N/A", "[N/A]"])
def test_an_unknown_serial_stays_unknown(text: str) -> None:
    files = {"nvidia_smi_q.txt": f"    Serial Number                   : {text}\n"}
    assert masked(Readings(files)).files == files
