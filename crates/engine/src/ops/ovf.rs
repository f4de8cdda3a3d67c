//! OVF descriptions of our machines, in the words VirtualBox and VMware understand: version 1, disks on SATA, cards as E1000.
//!
//! What they have no word for, or what any guest of theirs can do with, is said once more as it is with us, under keys that start
//! with `voidvm.` and that nobody else has to know: chipset, each disk's bus, each card's model, TPM.

use std::fmt::Write as _;

use voidvm_model::MachineSpec;
use voidvm_model::spec::{Audio, Firmware, NicModel};

/// A disk of the archive.
pub(super) struct Disk {
    pub(super) name: String,
    /// Bytes of its file.
    pub(super) size: u64,
    /// Bytes a guest sees.
    pub(super) capacity: u64,
}

/// The whole document.
pub(super) fn write(name: &str, spec: &MachineSpec, disks: &[Disk]) -> String {
    let name = escaped(name);
    let mut files = String::new();
    let mut described = String::new();
    for (at, Disk { name, size, capacity }) in disks.iter().enumerate() {
        let _ = writeln!(files, "    <File ovf:id=\"file{at}\" ovf:href=\"{name}\" ovf:size=\"{size}\"/>");
        let _ = writeln!(
            described,
            "    <Disk ovf:diskId=\"vmdisk{at}\" ovf:fileRef=\"file{at}\" ovf:capacity=\"{capacity}\" \
             ovf:format=\"http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized\"/>"
        );
    }
    let mut items = Items { text: String::new(), next: 1 };
    items.add(&[
        ("ElementName", &format!("{} virtual CPUs", spec.cpus)),
        ("ResourceType", "3"),
        ("VirtualQuantity", &spec.cpus.to_string()),
    ]);
    let memory = spec.memory.0.to_string();
    items.add(&[
        ("AllocationUnits", "byte * 2^20"),
        ("ElementName", &format!("{memory} MB of memory")),
        ("ResourceType", "4"),
        ("VirtualQuantity", &memory),
    ]);
    let sata = items.add(&[
        ("Address", "0"),
        ("ElementName", "SATA Controller"),
        ("ResourceSubType", "AHCI"),
        ("ResourceType", "20"),
    ]);
    let mut port = 0;
    let mut attach = |items: &mut Items, name: &str, host: Option<&str>, kind: &str| {
        let (at, parent) = (port.to_string(), sata.to_string());
        port += 1;
        let mut fields = vec![("AddressOnParent", at.as_str()), ("ElementName", name)];
        fields.extend(host.map(|host| ("HostResource", host)));
        fields.extend([("Parent", parent.as_str()), ("ResourceType", kind)]);
        items.add(&fields);
    };
    for at in 0..disks.len() {
        attach(&mut items, &format!("Disk {at}"), Some(&format!("ovf:/disk/vmdisk{at}")), "17");
    }
    for at in 0..spec.cdroms.len() {
        attach(&mut items, &format!("CD-ROM {at}"), None, "15");
    }
    for (at, nic) in spec.nics.iter().enumerate() {
        let model = match nic.model {
            NicModel::E1000e => "E1000e",
            NicModel::Virtio => "E1000",
        };
        items.add(&[
            ("AutomaticAllocation", "true"),
            ("Connection", "NAT"),
            ("ElementName", &format!("Network card {at}")),
            ("ResourceSubType", model),
            ("ResourceType", "10"),
        ]);
    }
    if spec.audio == Audio::Hda {
        items.add(&[("ElementName", "Sound card"), ("ResourceType", "35")]);
    }
    let mut config = String::new();
    let mut set = |key: &str, value: &str| {
        let _ = writeln!(
            config,
            "      <vmw:Config ovf:required=\"false\" vmw:key=\"{key}\" vmw:value=\"{value}\"/>"
        );
    };
    if spec.firmware.is_uefi() {
        set("firmware", "efi");
    }
    if spec.firmware == Firmware::UefiSecure {
        set("bootOptions.efiSecureBootEnabled", "true");
    }
    if spec.tpm {
        set("voidvm.tpm", "true");
    }
    set("voidvm.machine", &word(&spec.machine));
    for (at, disk) in spec.disks.iter().enumerate() {
        set(&format!("voidvm.disk{at}.bus"), &word(&disk.bus));
    }
    for (at, nic) in spec.nics.iter().enumerate() {
        set(&format!("voidvm.nic{at}.model"), &word(&nic.model));
    }
    let items = items.text;
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<Envelope ovf:version="1.0" xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData" xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References>
{files}  </References>
  <DiskSection>
    <Info>Virtual disks</Info>
{described}  </DiskSection>
  <NetworkSection>
    <Info>Networks</Info>
    <Network ovf:name="NAT">
      <Description>User-mode NAT</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id="machine">
    <Info>A virtual machine</Info>
    <Name>{name}</Name>
    <OperatingSystemSection ovf:id="1">
      <Info>The guest's operating system</Info>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{name}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType>
      </System>
{items}{config}    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
"#
    )
}

/// What a machine's specification calls it.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

struct Items {
    text: String,
    next: u32,
}

impl Items {
    /// Adds an item; its fields are given in the order of the alphabet, as the schema wants them. Answers its number.
    fn add(&mut self, fields: &[(&str, &str)]) -> u32 {
        let id = self.next;
        self.next += 1;
        let number = id.to_string();
        let mut all: Vec<(&str, &str)> = fields.to_vec();
        all.push(("InstanceID", &number));
        all.sort_unstable_by_key(|(name, _)| *name);
        self.text.push_str("      <Item>\n");
        for (name, value) in all {
            let _ = writeln!(self.text, "        <rasd:{name}>{}</rasd:{name}>", escaped(value));
        }
        self.text.push_str("      </Item>\n");
        id
    }
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use voidvm_foreign::{Kind, read};
    use voidvm_model::MiB;
    use voidvm_model::spec::{
        self, DiskBus, DiskFormat, FileOwner, MacAddr, MachineType, NetworkBackend, Nic,
    };

    use super::*;

    #[test]
    fn what_others_need_not_know_comes_back() {
        let mac = |last: usize| MacAddr::qemu([1, 2, u8::try_from(last).unwrap()]);
        for (machine, buses) in [
            (
                MachineType::Q35,
                vec![DiskBus::Sata, DiskBus::Virtio, DiskBus::Scsi, DiskBus::Nvme, DiskBus::Sata],
            ),
            (MachineType::I440fx, vec![DiskBus::Ide, DiskBus::Virtio]),
        ] {
            let mut spec = MachineSpec { machine, ..MachineSpec::new(2, MiB(512)) };
            for (at, bus) in buses.iter().enumerate() {
                let (id, file) = (format!("disk{at}").parse().unwrap(), format!("/d{at}.qcow2").into());
                let disk = spec::Disk::new(id, file, DiskFormat::Qcow2, FileOwner::Machine);
                spec.disks.push(spec::Disk { bus: *bus, ..disk });
            }
            for (at, model) in [NicModel::E1000e, NicModel::Virtio].into_iter().enumerate() {
                let id = format!("nic{at}").parse().unwrap();
                spec.nics.push(Nic { model, ..Nic::new(id, mac(at), NetworkBackend::user(Vec::new())) });
            }
            let disk = |at: usize| Disk { name: format!("disk{at}.vmdk"), size: 1, capacity: 1 << 20 };
            let disks: Vec<Disk> = (0..buses.len()).map(disk).collect();
            let text = write("web & co", &spec, &disks);
            let mut next = 2;
            let mut fresh = || {
                next += 1;
                mac(next)
            };
            let plan = read(Kind::Ovf, &text, Path::new("/x"), &mut fresh).unwrap();
            assert_eq!(plan.spec.machine, machine);
            assert_eq!(plan.spec.disks.iter().map(|disk| disk.bus).collect::<Vec<_>>(), buses);
            assert_eq!(
                plan.spec.nics.iter().map(|nic| nic.model).collect::<Vec<_>>(),
                [NicModel::E1000e, NicModel::Virtio]
            );
            assert_eq!(plan.unsupported, []);
        }
    }
}
