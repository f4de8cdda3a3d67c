//! List, show, command, logs, screenshot, doctor, version.

use std::process::ExitCode;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::json;
use voidvm_host::Config;
use voidvm_model::contract::{
    LogKind, Picture, SshAccess, VmCommand, VmListRequest, VmLogs, VmLogsRequest, VmRef,
};
use voidvm_model::spec::{PortForward, Protocol};
use voidvm_model::system::{CheckStatus, DoctorReport};
use voidvm_model::vm::{ActiveAccel, GuestInfo};
use voidvm_model::{Bytes, ErrorBody, ErrorCode, VmState, VmView};

use crate::args::{LogArg, Logs, Screenshot};
use crate::client::Client;
use crate::output::{Format, document, line, print, printable, table};

/// How long the guest agent may keep `show` waiting.
const AGENT: Duration = Duration::from_secs(2);

pub(crate) async fn list(client: &Client, format: Format) -> Result<(), ErrorBody> {
    let vms: Vec<VmView> = client.call("vm.list", &VmListRequest::default()).await?;
    if format == Format::Json {
        return document(&vms);
    }
    if vms.is_empty() {
        return line("No machines yet. Make one with: voidvm create NAME --demo");
    }
    let rows = vms.iter().map(|vm| {
        vec![
            vm.name.clone(),
            vm.state.to_string(),
            since(vm.state_since),
            vm.spec.cpus.to_string(),
            vm.spec.memory.to_string(),
            vm.spec.forwards().map(forward).collect::<Vec<_>>().join(" "),
        ]
    });
    line(table(&["name", "state", "since", "cpus", "memory", "forwards"], rows))
}

pub(crate) async fn show(vm: &str, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let vm = client.find(vm).await?;
    if format == Format::Json {
        return document(&vm);
    }
    let mut rows: Vec<(&str, String)> = vec![
        ("name", vm.name.clone()),
        ("id", vm.id.to_string()),
        ("state", format!("{}, {}", vm.state, since(vm.state_since))),
    ];
    if let Some(trouble) = &vm.attention {
        rows.push(("trouble", trouble.message.clone()));
        rows.extend(trouble.hint.clone().map(|hint| ("hint", hint)));
    }
    if let Some(operation) = &vm.operation {
        rows.push(("operation", format!("{} ({})", operation.kind.as_str(), operation.status.as_str())));
    }
    if let Some(run) = &vm.run {
        let accel = match run.accel {
            ActiveAccel::Kvm => "KVM",
            ActiveAccel::Tcg => "software emulation",
        };
        rows.push(("process", format!("pid {}, QEMU {}, {accel}", run.pid, run.qemu_version)));
    }
    if !vm.description.is_empty() {
        rows.push(("description", vm.description.clone()));
    }
    rows.push(("cpus", vm.spec.cpus.to_string()));
    rows.push(("memory", vm.spec.memory.to_string()));
    rows.push(("firmware", format!("{:?}", vm.spec.firmware).to_lowercase()));
    rows.push(("accel", format!("{:?}", vm.spec.accel).to_lowercase()));
    rows.extend(vm.spec.disks.iter().map(|disk| ("disk", disk.file.display().to_string())));
    let drive = |file: &Option<std::path::PathBuf>| {
        file.as_ref().map_or_else(|| "empty".to_owned(), |file| file.display().to_string())
    };
    rows.extend(vm.spec.cdroms.iter().map(|cdrom| ("cdrom", drive(&cdrom.file))));
    rows.extend(vm.spec.forwards().map(|one| ("forward", forward(one))));
    rows.extend(vm.pending.iter().map(|change| {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        ("next start", format!("{}: {} to {}", change.field, text(&change.running), text(&change.next)))
    }));
    if vm.run.as_ref().is_some_and(|run| run.disposable) {
        rows.push(("note", "what it writes is thrown away when it stops".to_owned()));
    }
    if vm.state.is_live()
        && let Ok(Some(access)) = client.call::<Option<SshAccess>>("vm.ssh", &VmRef { id: vm.id }).await
    {
        rows.push(("ssh", access.command));
    }
    if vm.state == VmState::Running
        && let Ok(Ok(guest)) =
            tokio::time::timeout(AGENT, client.call::<GuestInfo>("vm.guest", &VmRef { id: vm.id })).await
    {
        rows.extend(guest.os.map(|os| ("guest", os)));
        rows.extend(
            guest
                .addresses
                .into_iter()
                .map(|one| ("address", format!("{} ({})", one.address, one.interface))),
        );
    }
    line(table(&[], rows.into_iter().map(|(key, value)| vec![key.to_owned(), value])))
}

fn forward(forward: &PortForward) -> String {
    let udp = if forward.protocol == Protocol::Udp { "/udp" } else { "" };
    format!("{}:{}→{}{udp}", forward.host_address, forward.host_port, forward.guest_port)
}

/// How long ago, in the largest unit that fits.
fn since(at: Timestamp) -> String {
    let seconds = Timestamp::now().as_second().saturating_sub(at.as_second()).max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

pub(crate) async fn command(vm: &str, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let vm = client.find(vm).await?;
    let command: VmCommand = client.call("vm.command", &VmRef { id: vm.id }).await?;
    match format {
        Format::Json => document(&command),
        Format::Text => line(command.next.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")),
    }
}

/// A word as a shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

pub(crate) async fn logs(args: &Logs, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let vm = client.find(&args.vm).await?;
    let log = match args.log {
        LogArg::Qemu => LogKind::Qemu,
        LogArg::Serial => LogKind::Serial,
    };
    let tail = args.tail.map(|Bytes(bytes)| u32::try_from(bytes).unwrap_or(u32::MAX));
    let logs: VmLogs = client.call("vm.logs", &VmLogsRequest { id: vm.id, log, tail }).await?;
    match format {
        Format::Json => document(&logs),
        Format::Text => {
            let clean = logs.text.replace("\r\n", "\n");
            print(&printable(&clean.replace('\t', "    ")))
        }
    }
}

pub(crate) async fn screenshot(args: &Screenshot, client: &Client, format: Format) -> Result<(), ErrorBody> {
    let vm = client.find(&args.vm).await?;
    let picture: Picture = client.call("vm.screenshot", &VmRef { id: vm.id }).await?;
    let png = STANDARD.decode(&picture.png).map_err(|error| {
        ErrorBody::new(ErrorCode::NetworkFailed, format!("The picture did not arrive whole: {error}."))
    })?;
    if args.file.as_os_str() == "-" {
        use std::io::Write as _;
        return std::io::stdout().lock().write_all(&png).map_err(|error| {
            ErrorBody::new(ErrorCode::Internal, format!("The picture cannot be written: {error}."))
        });
    }
    std::fs::write(&args.file, &png)
        .map_err(|error| voidvm_host::directories::io_error("write", &args.file, &error))?;
    match format {
        Format::Json => document(&json!({
            "id": vm.id, "name": vm.name, "state": vm.state,
            "file": args.file, "width": picture.width, "height": picture.height, "at": picture.at,
        })),
        Format::Text => {
            line(format_args!("{} ({} × {})", args.file.display(), picture.width, picture.height))
        }
    }
}

pub(crate) async fn doctor(config: Config, format: Format) -> Result<ExitCode, ErrorBody> {
    let report: DoctorReport = voidvm_host::doctor::of_anybody(config).await;
    let failed = report.checks.iter().any(|check| check.status == CheckStatus::Failed);
    match format {
        Format::Json => document(&report)?,
        Format::Text => {
            for check in &report.checks {
                let mark = match check.status {
                    CheckStatus::Ok => "ok     ",
                    CheckStatus::Warning => "warning",
                    CheckStatus::Failed => "FAILED ",
                };
                line(format_args!("{mark}  {}", printable(&check.message)))?;
                if let Some(remedy) = &check.remedy {
                    line(format_args!("         → {}", printable(remedy)))?;
                }
                if let Some(command) = &check.command {
                    line(format_args!("           $ {}", printable(command)))?;
                }
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

pub(crate) async fn version(config: &Config, format: Format) -> Result<(), ErrorBody> {
    let version = env!("CARGO_PKG_VERSION");
    let qemu = voidvm_host::doctor::qemu_version(&config.layers.settings().qemu_binary).await;
    match format {
        Format::Json => document(&json!({ "version": version, "api": "v1", "qemu": qemu })),
        Format::Text => {
            let qemu =
                qemu.map_or_else(|| "no QEMU that can be used".to_owned(), |qemu| format!("QEMU {qemu}"));
            line(format_args!("voidvm {version} ({qemu})"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_so_that_a_shell_reads_them_back() {
        for (word, shown) in
            [("-m", "-m"), ("", "''"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("{\"a\":1}", "'{\"a\":1}'")]
        {
            assert_eq!(quoted(word), shown);
        }
    }
}
