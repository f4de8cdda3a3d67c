//! USB devices that are plugged into the host now, as the kernel shows them.

use std::path::Path;

use rustix::fs::Access;
use voidvm_model::system::HostUsbDevice;

use crate::fleet::Fleet;

const DEVICES: &str = "/sys/bus/usb/devices";
const NODES: &str = "/dev/bus/usb";
/// The class of hubs, which cannot be lent.
const HUB: &str = "09";

/// The devices, by name, with the live machine that is lent each.
pub(crate) fn list(fleet: &Fleet) -> Vec<HostUsbDevice> {
    let mut devices = read(Path::new(DEVICES), Path::new(NODES));
    let lent: Vec<_> = fleet
        .all()
        .iter()
        .filter_map(|machine| Some((machine.view().name.clone(), machine.run()?.record())))
        .collect();
    for device in &mut devices {
        let is = |lent: &voidvm_model::spec::UsbDevice| {
            (lent.vendor_id, lent.product_id) == (device.vendor_id, device.product_id)
        };
        let holder = lent.iter().find(|(_, record)| record.spec.usb.iter().any(is));
        device.used_by = holder.map(|(name, _)| name.clone());
    }
    devices
}

fn read(devices: &Path, nodes: &Path) -> Vec<HostUsbDevice> {
    let mut found: Vec<HostUsbDevice> = std::fs::read_dir(devices)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| device(&entry.path(), nodes))
        .collect();
    found.sort_by(|a, b| {
        a.name.cmp(&b.name).then((a.vendor_id, a.product_id).cmp(&(b.vendor_id, b.product_id)))
    });
    found
}

/// One device; none of an interface, a hub, or what vanishes while it is read.
fn device(path: &Path, nodes: &Path) -> Option<HostUsbDevice> {
    let text = |name: &str| {
        let text = std::fs::read_to_string(path.join(name)).ok()?;
        let text: String = text.trim().chars().filter(|c| !c.is_control()).collect();
        (!text.is_empty()).then_some(text)
    };
    let hex = |name: &str| u16::from_str_radix(&text(name)?, 16).ok();
    let (vendor_id, product_id) = (hex("idVendor")?, hex("idProduct")?);
    if text("bDeviceClass")? == HUB {
        return None;
    }
    let number = |name: &str| text(name)?.parse::<u16>().ok();
    let node = nodes.join(format!("{:03}/{:03}", number("busnum")?, number("devnum")?));
    let accessible = rustix::fs::access(&node, Access::READ_OK | Access::WRITE_OK).is_ok();
    let name = match (text("manufacturer"), text("product")) {
        (Some(maker), Some(product)) if product.starts_with(&maker) => product,
        (Some(maker), Some(product)) => format!("{maker} {product}"),
        (None, Some(name)) | (Some(name), None) => name,
        (None, None) => format!("{vendor_id:04x}:{product_id:04x}"),
    };
    Some(HostUsbDevice { vendor_id, product_id, name, accessible, used_by: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_hubs_and_interfaces_left_out() {
        let root = tempfile::tempdir().unwrap();
        let (devices, nodes) = (root.path().join("devices"), root.path().join("nodes"));
        let put = |name: &str, files: &[(&str, &str)]| {
            let dir = devices.join(name);
            std::fs::create_dir_all(&dir).unwrap();
            for (file, text) in files {
                std::fs::write(dir.join(file), format!("{text}\n")).unwrap();
            }
        };
        let number = |devnum| [("busnum", "1"), ("devnum", devnum), ("idVendor", "046d")];
        let with = |devnum, more: &[(&'static str, &'static str)]| [&number(devnum), more].concat();
        put("usb1", &with("1", &[("idProduct", "0002"), ("bDeviceClass", "09")]));
        put(
            "1-1",
            &with(
                "3",
                &[
                    ("idProduct", "c52b"),
                    ("bDeviceClass", "00"),
                    ("product", "Receiver"),
                    ("manufacturer", "Logitech"),
                ],
            ),
        );
        put("1-2", &with("4", &[("idProduct", "0001"), ("bDeviceClass", "00")]));
        put("1-1:1.0", &[("bInterfaceClass", "03")]);
        std::fs::create_dir_all(nodes.join("001")).unwrap();
        std::fs::write(nodes.join("001/003"), "").unwrap();
        let found = read(&devices, &nodes);
        let shown: Vec<_> = found.iter().map(|d| (d.name.as_str(), d.product_id, d.accessible)).collect();
        assert_eq!(shown, [("046d:0001", 1, false), ("Logitech Receiver", 0xc52b, true)]);
        assert!(read(&root.path().join("none"), &nodes).is_empty());
    }
}
