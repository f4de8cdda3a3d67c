//! Devices, drives, networks and media that come and go while the machine runs.

use std::collections::BTreeMap;
use std::net::{TcpListener, UdpSocket};
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::args::{Args, Forward};
use crate::blocks::{Backing, Blocks};
use crate::commands::Refusal;

/// What is plugged in.
#[derive(Debug, Default)]
pub(crate) struct Devices(Mutex<Plugged>);

#[derive(Debug, Default)]
struct Plugged {
    /// In the order they came.
    devices: Vec<Value>,
    blocks: Blocks,
    networks: BTreeMap<String, ()>,
    objects: BTreeMap<String, u64>,
    /// The host's side of a forward (`tcp:127.0.0.1:2222`), and what holds its port.
    forwards: BTreeMap<String, Held>,
    open_trays: Vec<String>,
}

#[derive(Debug)]
#[expect(dead_code, reason = "held, never read: the port is free when it is dropped")]
enum Held {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

impl Devices {
    fn plugged(&self) -> MutexGuard<'_, Plugged> {
        self.0.lock().expect("no thread panics with it")
    }

    /// What the command line asks for; the error is QEMU's.
    pub(crate) fn launch(&self, args: &Args) -> Result<(), String> {
        for image in &args.images {
            let opened = self.plugged().blocks.open(
                &image.node,
                (&image.file, &image.driver),
                image.read_only,
                Backing::Header,
            );
            opened.map_err(|reason| format!("-blockdev {}: {reason}", image.option))?;
        }
        for forward in &args.forwards {
            self.forward(forward).map_err(|reason| format!("-netdev {}: {reason}", forward.option))?;
        }
        let mut plugged = self.plugged();
        plugged.devices.extend(args.devices.iter().cloned());
        plugged.networks.extend(args.networks.iter().map(|id| (id.clone(), ())));
        Ok(())
    }

    /// Binds the host's side of a forward; nothing comes through it.
    fn forward(&self, forward: &Forward) -> Result<(), String> {
        let failed = || format!("Could not set up host forwarding rule '{}'", forward.rule);
        let held = if forward.protocol == "udp" {
            UdpSocket::bind(&forward.address).map(Held::Udp)
        } else {
            TcpListener::bind(&forward.address).map(Held::Tcp)
        };
        let key = format!("{}:{}", forward.protocol, forward.address);
        self.plugged().forwards.insert(key, held.map_err(|_| failed())?);
        Ok(())
    }

    pub(crate) fn list(&self) -> Value {
        let devices = self.plugged();
        let devices = devices.devices.iter().filter(|device| !text(device, "id").is_empty());
        let named = |device: &Value| json!({"name": text(device, "id"), "type": format!("child<{}>", text(device, "driver"))});
        std::iter::once(json!({"name": "type", "type": "string"})).chain(devices.map(named)).collect()
    }

    pub(crate) fn nodes(&self) -> Value {
        self.plugged().blocks.list()
    }

    /// The root ports and what is plugged into each.
    pub(crate) fn pci(&self) -> Value {
        let plugged = self.plugged();
        let ports = plugged.devices.iter().filter(|device| text(device, "driver") == "pcie-root-port");
        let devices: Vec<Value> = ports
            .map(|port| {
                let id = text(port, "id");
                let inside = plugged.devices.iter().filter(|device| text(device, "bus") == id);
                let inside: Vec<Value> =
                    inside.map(|device| json!({"qdev_id": text(device, "id"), "bus": 1, "slot": 0})).collect();
                json!({"qdev_id": id, "bus": 0, "slot": 5, "pci_bridge": {"bus": {"number": 1}, "devices": inside}})
            })
            .collect();
        json!([{"bus": 0, "devices": devices}])
    }

    pub(crate) fn plug(&self, device: &Value) -> Result<Value, Refusal> {
        let (id, bus) = (text(device, "id"), text(device, "bus"));
        let mut plugged = self.plugged();
        if plugged.devices.iter().any(|other| text(other, "id") == id) {
            return Err(Refusal::generic(format!("Duplicate device ID '{id}'")));
        }
        let port = plugged
            .devices
            .iter()
            .any(|other| text(other, "driver") == "pcie-root-port" && text(other, "id") == bus);
        if port && plugged.devices.iter().any(|other| text(other, "bus") == bus) {
            return Err(Refusal::generic(format!("PCI: slot 0 function 0 not available for {id}, in use")));
        }
        for (key, there) in [
            ("drive", plugged.blocks.has(text(device, "drive"))),
            ("netdev", plugged.networks.contains_key(text(device, "netdev"))),
            ("memdev", plugged.objects.contains_key(text(device, "memdev"))),
        ] {
            if device.get(key).is_some() && !there {
                return Err(Refusal::generic(format!(
                    "Property '{key}' can't find value '{}'",
                    text(device, key)
                )));
            }
        }
        plugged.devices.push(device.clone());
        Ok(json!({}))
    }

    /// Whether there is such a device; it stays.
    pub(crate) fn has(&self, id: &str) -> Result<(), Refusal> {
        let there = self.plugged().devices.iter().any(|device| text(device, "id") == id);
        let missing = || Refusal { class: "DeviceNotFound", desc: format!("Device '{id}' not found") };
        there.then_some(()).ok_or_else(missing)
    }

    pub(crate) fn unplug(&self, id: &str) {
        self.plugged().devices.retain(|device| text(device, "id") != id);
    }

    pub(crate) fn add_drive(&self, drive: &Value) -> Result<Value, Refusal> {
        self.plugged().blocks.add(drive).map(|()| json!({})).map_err(Refusal::generic)
    }

    pub(crate) fn remove_drive(&self, node: &str) -> Result<Value, Refusal> {
        let mut plugged = self.plugged();
        if plugged.devices.iter().any(|device| text(device, "drive") == node) {
            return Err(Refusal::generic(format!("Node {node} is in use")));
        }
        plugged.blocks.remove(node).map(|()| json!({})).map_err(Refusal::generic)
    }

    /// Overlays that are put on, all at once: devices write to them from then on.
    pub(crate) fn transaction(&self, actions: &Value) -> Result<Value, Refusal> {
        let mut plugged = self.plugged();
        for action in actions.as_array().into_iter().flatten() {
            let (node, overlay) = (text(&action["data"], "node"), text(&action["data"], "overlay"));
            plugged.blocks.put_on(node, overlay).map_err(Refusal::generic)?;
            for device in plugged.devices.iter_mut().filter(|device| text(device, "drive") == node) {
                device["drive"] = overlay.into();
            }
        }
        Ok(json!({}))
    }

    /// A command about nodes and jobs.
    pub(crate) fn blocks(
        &self,
        command: impl FnOnce(&mut Blocks) -> Result<(), String>,
    ) -> Result<Value, Refusal> {
        command(&mut self.plugged().blocks).map(|()| json!({})).map_err(Refusal::generic)
    }

    /// `query-jobs`.
    pub(crate) fn jobs(&self) -> Value {
        self.plugged().blocks.jobs()
    }

    pub(crate) fn add_network(&self, network: &Value) -> Result<Value, Refusal> {
        for rule in network["hostfwd"].as_array().into_iter().flatten() {
            if let Some(forward) = Forward::read(text(rule, "str"), "") {
                self.forward(&forward).map_err(Refusal::generic)?;
            }
        }
        self.plugged().networks.insert(text(network, "id").to_owned(), ());
        Ok(json!({}))
    }

    pub(crate) fn remove_network(&self, id: &str) -> Result<Value, Refusal> {
        match self.plugged().networks.remove(id) {
            Some(()) => Ok(json!({})),
            None => Err(Refusal { class: "DeviceNotFound", desc: format!("Device '{id}' not found") }),
        }
    }

    pub(crate) fn add_object(&self, object: &Value) -> Value {
        let size = object["size"].as_u64().unwrap_or(0);
        self.plugged().objects.insert(text(object, "id").to_owned(), size);
        json!({})
    }

    pub(crate) fn remove_object(&self, id: &str) -> Value {
        self.plugged().objects.remove(id);
        json!({})
    }

    /// Bytes of memory plugged in, and CPUs.
    pub(crate) fn plugged_in(&self) -> (u64, u64) {
        let plugged = self.plugged();
        let of = |driver: &str| -> Vec<&Value> {
            plugged.devices.iter().filter(|device| text(device, "driver").ends_with(driver)).collect()
        };
        let memory = of("pc-dimm").iter().filter_map(|dimm| plugged.objects.get(text(dimm, "memdev"))).sum();
        (memory, of("-cpu").len() as u64)
    }

    /// The human monitor's commands about forwards.
    pub(crate) fn say(&self, line: &str) -> Value {
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("hostfwd_add"), Some(_), Some(rule)) => match Forward::read(rule, "") {
                Some(forward) => match self.forward(&forward) {
                    Ok(()) => json!(""),
                    Err(reason) => json!(reason + "\r\n"),
                },
                None => json!("invalid host forwarding rule\r\n"),
            },
            (Some("hostfwd_remove"), Some(_), Some(host)) => match self.plugged().forwards.remove(host) {
                Some(_) => json!(format!("host forwarding rule for {host} removed\r\n")),
                None => json!(format!("host forwarding rule for {host} not found\r\n")),
            },
            _ => json!(""),
        }
    }

    /// `query-block`.
    pub(crate) fn block(&self, full: Option<&str>) -> Value {
        let plugged = self.plugged();
        let is_drive = |device: &&Value| device.get("drive").is_some() || text(device, "driver") == "ide-cd";
        plugged
            .devices
            .iter()
            .filter(is_drive)
            .map(|device| {
                let (id, node) = (text(device, "id"), text(device, "drive"));
                let cd = text(device, "driver") == "ide-cd";
                let qdev =
                    if cd { id.to_owned() } else { format!("/machine/peripheral/{id}/virtio-backend") };
                let mut entry = json!({
                    "device": "", "locked": false, "removable": cd, "type": "unknown", "qdev": qdev,
                    "io-status": if full == Some(node) { "nospace" } else { "ok" },
                });
                if cd {
                    entry["tray_open"] = plugged.open_trays.iter().any(|open| open == id).into();
                }
                if let Some(inserted) = plugged.blocks.inserted(node) {
                    entry["inserted"] = inserted;
                }
                entry
            })
            .collect()
    }

    /// The drives that have counters, by node name and device.
    pub(crate) fn drives(&self) -> Vec<(String, String)> {
        let plugged = self.plugged();
        let with_drive = plugged.devices.iter().filter(|device| device.get("drive").is_some());
        with_drive.map(|device| (text(device, "drive").to_owned(), text(device, "id").to_owned())).collect()
    }

    /// Opens a tray, or says that the guest holds it.
    pub(crate) fn open_tray(&self, id: &str, locked: bool) -> Result<Value, Refusal> {
        if locked {
            return Err(Refusal::generic(format!(
                "Device '{id}' is locked and force was not specified, wait for tray to open and try again"
            )));
        }
        self.plugged().open_trays.push(id.to_owned());
        Ok(json!({}))
    }

    pub(crate) fn close_tray(&self, id: &str) -> Value {
        self.plugged().open_trays.retain(|open| open != id);
        json!({})
    }

    /// Puts a medium into a drive whose tray is open, or takes it out.
    pub(crate) fn change_medium(&self, id: &str, node: Option<&str>) -> Result<Value, Refusal> {
        let mut plugged = self.plugged();
        if !plugged.open_trays.iter().any(|open| open == id) {
            return Err(Refusal::generic(format!("Tray of device '{id}' is not open")));
        }
        let Some(device) = plugged.devices.iter_mut().find(|device| text(device, "id") == id) else {
            return Err(Refusal { class: "DeviceNotFound", desc: format!("Device '{id}' not found") });
        };
        match node {
            Some(node) => device["drive"] = node.into(),
            None => drop(device.as_object_mut().and_then(|device| device.remove("drive"))),
        }
        Ok(json!({}))
    }
}
