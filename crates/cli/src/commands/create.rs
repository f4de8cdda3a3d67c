//! `create`: the request from the command line, and from a file for what the command line leaves out.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use voidvm_host::payload::Payload;
use voidvm_model::contract::{CloudInit, CreateSource, Empty, VmCreateRequest, VmRef};
use voidvm_model::image::LibraryImage;
use voidvm_model::{Bytes, ErrorBody, ErrorCode, MachineSpec, Operation, VmId, VmView};

use crate::args::Create;
use crate::client::Client;
use crate::output::{Format, document, line};

/// The largest specification file that is read.
const SPEC_MAX: u64 = 1 << 20;

/// The machine an operation is about.
///
/// # Errors
/// When it is about none: the two ends are of different versions.
pub(crate) fn made(operation: &Operation) -> Result<VmId, ErrorBody> {
    operation.vm_id.ok_or_else(|| ErrorBody::new(ErrorCode::Internal, "The operation names no machine."))
}

pub(crate) async fn create(args: Create, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let request = request(args, client).await?;
    let operation: Operation = client.call("vm.create", &request).await?;
    let id = made(&operation)?;
    client.finish(operation).await?;
    let mut vm: VmView = client.call("vm.get", &VmRef { id }).await?;
    if request.start {
        // The start is an operation of its own, begun by the engine when the machine was made.
        if let Some(start) = vm.operation.clone() {
            client.finish(start).await?;
            vm = client.call("vm.get", &VmRef { id }).await?;
        }
    }
    match format {
        Format::Json => document(&vm),
        Format::Text => line(format_args!("{}: {} ({})", vm.name, vm.state, vm.id)),
    }
}

async fn request(args: Create, client: &Client) -> Result<VmCreateRequest, ErrorBody> {
    let cloud_init = cloud_init(&args)?;
    let mut base = match &args.from_spec {
        Some(file) => from_file(file)?,
        None => Map::new(),
    };
    base.insert("name".to_owned(), Value::String(args.name));
    let source = match (args.image, args.iso) {
        (Some(image), _) if args.in_place => {
            Some(CreateSource::ImageInPlace { path: absolute("image", &image)? })
        }
        (Some(image), _) => Some(image_source(&image, args.linked, args.disk, client).await?),
        (None, Some(iso)) => Some(CreateSource::Iso { path: absolute("iso", &iso)?, disk_size: args.disk }),
        (None, None) => match args.disk.filter(|_| args.empty) {
            Some(disk_size) => Some(CreateSource::Empty { disk_size }),
            None => args.demo.then_some(CreateSource::Demo),
        },
    };
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            base.insert(name.to_owned(), value);
        }
    };
    put("source", source.map(json));
    put("description", args.description.map(json));
    put("cpus", args.cpus.map(json));
    put("memory", args.memory.map(json));
    put("firmware", args.firmware.map(|firmware| json(voidvm_model::spec::Firmware::from(firmware))));
    put("encrypt", args.encrypt.then_some(Value::Bool(true)));
    put("tpm", args.tpm.then_some(Value::Bool(true)));
    put("os", args.os.map(json));
    put("cloudInit", cloud_init.map(json));
    put("accel", args.accel.map(|accel| json(voidvm_model::spec::Accel::from(accel))));
    put("forwards", (!args.forwards.is_empty()).then(|| json(args.forwards)));
    put("start", args.start.then_some(Value::Bool(true)));
    Payload::Json(Value::Object(base)).read()
}

/// A file, or else an image of the library by its name or id.
async fn image_source(
    image: &Path,
    linked: bool,
    disk_size: Option<Bytes>,
    client: &Client,
) -> Result<CreateSource, ErrorBody> {
    if image.exists() && !linked {
        return Ok(CreateSource::ImageCopy { path: absolute("image", image)?, disk_size });
    }
    let named = image.to_string_lossy();
    let images: Vec<LibraryImage> = client.call("image.list", &Empty {}).await?;
    let found = images.into_iter().find(|one| one.name == named || one.id.to_string() == named);
    match found {
        Some(found) => Ok(CreateSource::Library { image: found.id, disk_size, linked }),
        None if linked => {
            Err(ErrorBody::new(ErrorCode::NotFound, format!("The library has no image “{named}”."))
                .with_field("image")
                .with_hint("See the names with: voidvm image list"))
        }
        // The engine says what is wrong with the file.
        None => Ok(CreateSource::ImageCopy { path: absolute("image", image)?, disk_size }),
    }
}

/// What cloud-init shall do, where anything of it was said.
fn cloud_init(args: &Create) -> Result<Option<CloudInit>, ErrorBody> {
    if args.cloud_init.is_none() && args.ssh_keys.is_empty() && args.user.is_none() && args.hostname.is_none()
    {
        return Ok(None);
    }
    let mut ssh_keys = Vec::new();
    for file in &args.ssh_keys {
        let text = text_of("sshKey", file)?;
        ssh_keys.extend(
            text.lines()
                .map(str::trim)
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .map(str::to_owned),
        );
    }
    Ok(Some(CloudInit {
        user: args.user.clone().unwrap_or_else(|| "user".to_owned()),
        generate_key: ssh_keys.is_empty(),
        ssh_keys,
        password: None,
        hostname: args.hostname.clone(),
        packages: Vec::new(),
        user_data: args.cloud_init.as_deref().map(|file| text_of("cloudInit", file)).transpose()?,
    }))
}

/// The text of a small file.
fn text_of(field: &str, file: &Path) -> Result<String, ErrorBody> {
    let wrong = |reason: String| ErrorBody::invalid(field, format!("{}: {reason}.", file.display()));
    let meta = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?;
    if !meta.is_file() || meta.len() > SPEC_MAX {
        return Err(wrong("it is no file of at most 1 MiB".to_owned()));
    }
    std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))
}

fn json(value: impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// The path as the engine needs it: absolute, without `..`.
pub(crate) fn absolute(field: &str, path: &Path) -> Result<String, ErrorBody> {
    let absolute: PathBuf = path.canonicalize().or_else(|_| std::path::absolute(path)).map_err(|error| {
        ErrorBody::invalid(field, format!("{} cannot be a path: {error}.", path.display()))
    })?;
    absolute.into_os_string().into_string().map_err(|path| {
        ErrorBody::invalid(field, format!("{} is not valid Unicode.", path.display()))
            .with_hint("Rename the file.")
    })
}

/// The fields of a create request from a file: a create request itself, or a machine's specification.
fn from_file(file: &Path) -> Result<Map<String, Value>, ErrorBody> {
    let wrong = |reason: String| {
        ErrorBody::invalid("fromSpec", format!("{}: {reason}.", file.display()))
            .with_hint("Write a create request, or the spec that `voidvm show --json` prints.")
    };
    let meta = std::fs::metadata(file).map_err(|error| wrong(error.to_string()))?;
    if !meta.is_file() || meta.len() > SPEC_MAX {
        return Err(wrong("it is no file of at most 1 MiB".to_owned()));
    }
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    // The whole of `show --json` will do as well.
    let value = value.get("spec").cloned().unwrap_or(value);
    match value {
        Value::Object(map) if map.contains_key("machine") => {
            from_spec(&Payload::Json(Value::Object(map)).read()?)
        }
        Value::Object(map) => Ok(map),
        _ => Err(wrong("it is not a JSON object".to_owned())),
    }
}

/// A new machine like the one of a specification; its first disk is copied.
fn from_spec(spec: &MachineSpec) -> Result<Map<String, Value>, ErrorBody> {
    spec.validate()?;
    if spec.disks.len() > 1 || spec.cdroms.len() > 1 || spec.nics.len() > 1 {
        return Err(ErrorBody::new(
            ErrorCode::Unsupported,
            "A machine with several disks, drives or cards cannot be made from its specification.",
        )
        .with_hint("Create it with one of each."));
    }
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let iso = spec.cdroms.first().and_then(|cdrom| cdrom.file.as_deref());
    let source = match (spec.disks.first(), iso) {
        (Some(disk), _) => Some(CreateSource::ImageCopy { path: path(&disk.file), disk_size: None }),
        (None, Some(iso)) => Some(CreateSource::Iso { path: path(iso), disk_size: None }),
        (None, None) => None,
    };
    let forwards = spec.nics.first().map(|nic| nic.network.forwards().to_vec());
    let mut map = Map::new();
    map.insert("cpus".to_owned(), json(spec.cpus));
    map.insert("memory".to_owned(), json(spec.memory));
    map.insert("firmware".to_owned(), json(spec.firmware));
    map.insert("accel".to_owned(), json(spec.accel));
    map.insert("forwards".to_owned(), json(forwards.unwrap_or_default()));
    if let Some(source) = source {
        map.insert("source".to_owned(), json(source));
    }
    Ok(map)
}
