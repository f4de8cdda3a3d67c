//! QEMU's command line, as far as the fake has to know it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

/// A unix socket of a character device, and the file it is logged to.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    pub(crate) path: PathBuf,
    pub(crate) logfile: Option<PathBuf>,
}

/// An image file.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) node: String,
    pub(crate) file: PathBuf,
    pub(crate) driver: String,
    pub(crate) read_only: bool,
    /// The option it came in, for messages.
    pub(crate) option: String,
}

/// A forward of a user network.
#[derive(Clone, Debug)]
pub(crate) struct Forward {
    pub(crate) protocol: String,
    pub(crate) address: String,
    pub(crate) rule: String,
    pub(crate) option: String,
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Args {
    /// `-version`, or the option that was followed by `help`.
    pub(crate) question: Option<String>,
    pub(crate) name: String,
    pub(crate) uuid: String,
    pub(crate) accel: String,
    pub(crate) memory: u64,
    pub(crate) cpus: u64,
    /// `-S`.
    pub(crate) held: bool,
    pub(crate) monitor: Option<PathBuf>,
    pub(crate) serial: Option<Channel>,
    pub(crate) agent: Option<Channel>,
    pub(crate) images: Vec<Image>,
    pub(crate) forwards: Vec<Forward>,
    pub(crate) networks: Vec<String>,
    pub(crate) devices: Vec<Value>,
    /// The most CPUs there can be.
    pub(crate) max_cpus: u64,
    /// `-incoming`: the guest's memory comes through the monitor.
    pub(crate) incoming: bool,
}

/// The guest agent's virtio port.
const AGENT_PORT: &str = "org.qemu.guest_agent.0";
/// Options without a value.
const FLAGS: &[&str] =
    &["S", "nodefaults", "no-user-config", "nographic", "no-reboot", "no-shutdown", "daemonize"];

impl Args {
    /// Reads a command line; the error is a sentence as QEMU would put it.
    pub(crate) fn parse(given: &[String]) -> Result<Self, String> {
        let mut args = Self { memory: 128 << 20, cpus: 1, ..Self::default() };
        let mut channels = BTreeMap::new();
        let mut agent_channel = None;
        let mut serial_channel = None;
        let mut monitor_channel = None;
        let mut rest = given.iter();
        while let Some(option) = rest.next() {
            let name = option
                .strip_prefix('-')
                .map(|name| name.strip_prefix('-').unwrap_or(name))
                .ok_or_else(|| format!("{option}: drive with bus=0, unit=0 (index=0) exists"))?;
            match name {
                "version" | "h" | "help" => args.question = Some(name.to_owned()),
                "S" => args.held = true,
                _ if FLAGS.contains(&name) => {}
                _ => {
                    let value = rest.next().ok_or_else(|| format!("{option}: requires an argument"))?;
                    if value == "help" || value.ends_with(",help") {
                        args.question = Some(name.to_owned());
                    }
                    match name {
                        "name" => args.name = list(value).remove("guest").unwrap_or_default(),
                        "uuid" => args.uuid.clone_from(value),
                        "accel" => args.accel = value.split(',').next().unwrap_or_default().to_owned(),
                        "m" => args.memory = memory(value),
                        "smp" => {
                            let number = |key: &str| list(value).get(key).and_then(|cpus| cpus.parse().ok());
                            args.cpus = number("cpus").unwrap_or(1);
                            args.max_cpus = number("maxcpus").unwrap_or(args.cpus);
                        }
                        "chardev" => {
                            let values = list(value);
                            if let (Some(id), Some(path)) = (values.get("id"), values.get("path")) {
                                let logfile = values.get("logfile").map(PathBuf::from);
                                channels.insert(id.clone(), Channel { path: path.into(), logfile });
                            }
                        }
                        "mon" => monitor_channel = list(value).remove("chardev"),
                        "qmp" => {
                            args.monitor = value
                                .strip_prefix("unix:")
                                .map(|path| path.split(',').next().unwrap_or_default().into());
                        }
                        "device" => {
                            let device = any_notation(value);
                            match device.get("driver").and_then(Value::as_str) {
                                Some("virtserialport")
                                    if text(&device, "name").as_deref() == Some(AGENT_PORT) =>
                                {
                                    agent_channel = text(&device, "chardev");
                                }
                                Some("isa-serial") if device.get("index").is_none_or(|index| index == 0) => {
                                    serial_channel = text(&device, "chardev");
                                }
                                _ => {}
                            }
                            args.devices.push(device);
                        }
                        "incoming" => args.incoming = true,
                        "serial" => serial_channel = value.strip_prefix("chardev:").map(str::to_owned),
                        "blockdev" => args.images.extend(image(value)),
                        "netdev" => {
                            args.forwards.extend(forwards(value));
                            args.networks.extend(text(&any_notation(value), "id"));
                        }
                        _ => {}
                    }
                }
            }
        }
        let mut channel = |id: Option<String>| id.and_then(|id| channels.remove(&id));
        args.serial = channel(serial_channel);
        args.agent = channel(agent_channel);
        if let Some(monitor) = channel(monitor_channel) {
            args.monitor = Some(monitor.path);
        }
        Ok(args)
    }
}

/// A comma list with doubled commas, `key=value`; a first value without a key is `""`.
fn list(value: &str) -> BTreeMap<String, String> {
    value
        .replace(",,", "\0")
        .split(',')
        .map(|part| {
            let part = part.replace('\0', ",");
            match part.split_once('=') {
                Some((key, value)) => (key.to_owned(), value.to_owned()),
                None => (String::new(), part),
            }
        })
        .collect()
}

fn any_notation(value: &str) -> Value {
    if value.starts_with('{') {
        return serde_json::from_str(value).unwrap_or_default();
    }
    let mut values = list(value);
    if let Some(driver) = values.remove("") {
        values.insert("driver".to_owned(), driver);
    }
    serde_json::to_value(values).unwrap_or_default()
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

/// `2048`, `2048M`, `size=2G`.
fn memory(value: &str) -> u64 {
    let values = list(value);
    let size = values.get("size").or_else(|| values.get("")).map_or("128", String::as_str);
    let (digits, shift) = match size.as_bytes().last() {
        Some(b'G') => (&size[..size.len() - 1], 30),
        Some(b'K') => (&size[..size.len() - 1], 10),
        Some(b'M') => (&size[..size.len() - 1], 20),
        _ => (size, 20),
    };
    digits.parse::<u64>().unwrap_or(128) << shift
}

/// The file of a block device, if it is one of a file.
fn image(option: &str) -> Option<Image> {
    let value = any_notation(option);
    let file =
        value.get("file").and_then(|file| text(file, "filename")).or_else(|| text(&value, "filename"))?;
    Some(Image {
        node: text(&value, "node-name").unwrap_or_default(),
        file: file.into(),
        driver: text(&value, "driver").unwrap_or_default(),
        read_only: value.get("read-only").is_some_and(|flag| flag == true || flag == "on"),
        option: option.to_owned(),
    })
}

/// The forwards of a user network: `{"str": "tcp:127.0.0.1:2222-:22"}` each.
fn forwards(option: &str) -> Vec<Forward> {
    let value = any_notation(option);
    let Some(rules) = value.get("hostfwd").and_then(Value::as_array) else { return Vec::new() };
    rules.iter().filter_map(|rule| Forward::read(&text(rule, "str")?, option)).collect()
}

impl Forward {
    /// Reads `tcp:127.0.0.1:2222-:22`.
    pub(crate) fn read(rule: &str, option: &str) -> Option<Self> {
        let (protocol, rest) = rule.split_once(':')?;
        let (address, _) = rest.split_once('-')?;
        Some(Self {
            protocol: protocol.to_owned(),
            address: address.to_owned(),
            rule: rule.to_owned(),
            option: option.to_owned(),
        })
    }
}
