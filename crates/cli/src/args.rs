//! The command line's grammar. Scripts rely on it: it grows, and never changes its meaning.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use voidvm_model::spec::{Accel, Firmware, PortForward};
use voidvm_model::{Bytes, MiB};

use crate::commands::{copies, service, ssh};

use crate::commands::backup::BackupCommand;
use crate::commands::group::GroupCommand;
use crate::commands::image::ImageCommand;
use crate::commands::schedule::ScheduleCommand;
use crate::commands::snapshot::SnapshotCommand;
use crate::commands::storage::{PoolCommand, VolumeCommand};

/// Runs virtual machines on this computer.
#[derive(Debug, Parser)]
#[command(name = "voidvm", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// Print one JSON document, and errors as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Where machines and their disks are.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// VM is a machine's name or id.
#[derive(Debug, Subcommand)]
#[expect(clippy::enum_variant_names, reason = "`command` is a word of the grammar")]
pub(crate) enum Command {
    /// Define a machine and make its disk.
    Create(Create),
    /// List the machines.
    List,
    /// Show one machine.
    Show(One),
    /// Start machines.
    Start(Start),
    /// Ask guests to shut down.
    Stop(Stop),
    /// Hold a guest.
    Pause(One),
    /// Let a held guest go on.
    Resume(One),
    /// Write a machine's memory to disk and end its process; start goes on from there, stop --force throws it away.
    Suspend(One),
    /// Press the reset button.
    Reset(One),
    /// Remove machines and the files that are their own.
    Delete(Delete),
    /// Change a machine: name, description, os, tags, group, color, favourite, template, cpus, max-cpus, memory, max-memory,
    /// balloon, firmware, tpm, accel, forward, link, cdrom, boot, attach, detach, clipboard.
    Set(Set),
    /// Show the QEMU command of the next start.
    Command(One),
    /// Attach this terminal to the serial port; Ctrl+] leaves.
    Console(One),
    /// Log in to a guest that cloud-init prepared, or run a command in it.
    Ssh(ssh::Ssh),
    /// Write the screen to a PNG file.
    Screenshot(Screenshot),
    /// Type a text on the guest's keyboard (US layout).
    Type(Type),
    /// Show the end of a machine's log.
    Logs(Logs),
    /// Make a copy of a machine.
    Clone(copies::Clone),
    /// Write a machine to one file.
    Export(copies::Export),
    /// Make a machine of a file of another computer or program.
    Import(copies::Import),
    /// Backups of machines in a directory.
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Disk images and ISOs to make machines of.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Whole machines at one instant, to come back to or to make new ones of.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Machines that stand together, and all of them at one instant.
    #[command(subcommand)]
    Group(GroupCommand),
    /// Directories of disks.
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Disks in pools.
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Snapshots that are taken again and again.
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Look for everything that could be wrong with this host.
    Doctor,
    /// Run the engine and its page until stopped.
    Serve(Serve),
    /// Start the engine with the session (systemd): schedules then run with no window open.
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Show versions.
    Version,
    /// Print a completion script.
    Completion {
        /// For this shell.
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// Name or id.
    pub(crate) vm: String,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("source").required(true).multiple(true).args(["image", "iso", "demo", "empty", "from_spec"])))]
pub(crate) struct Create {
    /// Its name; nobody else's.
    pub(crate) name: String,
    /// A disk image, copied; or the name or id of an image of the library.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["iso", "demo", "empty"])]
    pub(crate) image: Option<PathBuf>,
    /// Use the image where it is instead of a copy.
    #[arg(long, requires = "image", conflicts_with_all = ["iso", "demo", "empty"])]
    pub(crate) in_place: bool,
    /// Stand on the library's image instead of copying it: made at once, and the image stays as long as the machine.
    #[arg(long, requires = "image", conflicts_with = "in_place")]
    pub(crate) linked: bool,
    /// Encrypt the new disk, empty or a copy of the image; its key is kept in the keychain.
    #[arg(long, conflicts_with_all = ["in_place", "linked"])]
    pub(crate) encrypt: bool,
    /// An empty disk of the size --disk says, and nothing to boot from yet.
    #[arg(long, requires = "disk", conflicts_with_all = ["iso", "demo"])]
    pub(crate) empty: bool,
    /// A CD to install or live from.
    #[arg(long, value_name = "FILE", conflicts_with = "demo")]
    pub(crate) iso: Option<PathBuf>,
    /// The size of a new disk beside the ISO, or to grow the copy of an image to.
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["in_place", "demo"])]
    pub(crate) disk: Option<Bytes>,
    /// The small Linux guest.
    #[arg(long)]
    pub(crate) demo: bool,
    /// Virtual CPUs.
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<u16>,
    /// Memory: 2G, 512M, or a number of MiB.
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub(crate) memory: Option<MiB>,
    /// What starts the guest.
    #[arg(long, value_enum)]
    pub(crate) firmware: Option<FirmwareArg>,
    /// A TPM 2.0.
    #[arg(long)]
    pub(crate) tpm: bool,
    /// The operating system it is for, as osinfo-db calls it (debian12, win11): what is not said here is as that likes it.
    #[arg(long, value_name = "OS")]
    pub(crate) os: Option<String>,
    /// User-data for cloud-init: a file that begins with #cloud-config.
    #[arg(long, value_name = "FILE")]
    pub(crate) cloud_init: Option<PathBuf>,
    /// A public key that may log in; may be repeated. A key of the machine's own is made without.
    #[arg(long = "ssh-key", value_name = "FILE")]
    pub(crate) ssh_keys: Vec<PathBuf>,
    /// The user cloud-init makes in the guest.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The guest's host name; the machine's name without.
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Which acceleration to use.
    #[arg(long, value_enum)]
    pub(crate) accel: Option<AccelArg>,
    /// A port of this host that leads into the guest; may be repeated.
    #[arg(long = "forward", value_name = "HOSTPORT:GUESTPORT[/udp]")]
    pub(crate) forwards: Vec<PortForward>,
    /// Free text.
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Start it when it is made.
    #[arg(long)]
    pub(crate) start: bool,
    /// Take what is not said here from a JSON file: a create request, or the `spec` that `show --json` prints.
    #[arg(long, value_name = "FILE")]
    pub(crate) from_spec: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Names or ids.
    #[arg(required = true, value_name = "VM")]
    pub(crate) vms: Vec<String>,
    /// Wait until the guests run.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Throw away what the guests write when they stop.
    #[arg(long)]
    pub(crate) disposable: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Names or ids.
    #[arg(required_unless_present = "all", value_name = "VM")]
    pub(crate) vms: Vec<String>,
    /// Every machine that runs, those that start with the engine last, in the opposite order.
    #[arg(long, conflicts_with = "vms")]
    pub(crate) all: bool,
    /// Seconds the guest has.
    #[arg(long, value_name = "S", conflicts_with = "force")]
    pub(crate) timeout: Option<u32>,
    /// End it at once, without asking the guest: unsaved work in it is lost.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Names or ids.
    #[arg(required = true, value_name = "VM")]
    pub(crate) vms: Vec<String>,
    /// Do not ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Leave the disks where they are.
    #[arg(long)]
    pub(crate) keep_disks: bool,
    /// Move everything to the desktop's trash instead of removing it.
    #[arg(long, conflicts_with = "keep_disks")]
    pub(crate) trash: bool,
    /// Copy what linked clones need into them first.
    #[arg(long)]
    pub(crate) flatten: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Set {
    /// Name or id.
    pub(crate) vm: String,
    /// What to change; forward and tags take a comma list, and nothing removes them all. A guest that runs is given at once
    /// what it can take; the rest waits for its next start.
    #[arg(required = true, value_name = "KEY=VALUE")]
    pub(crate) changes: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Screenshot {
    /// Name or id.
    pub(crate) vm: String,
    /// Where to; - is standard output.
    #[arg(value_name = "FILE.png")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Type {
    /// Name or id.
    pub(crate) vm: String,
    /// What to type; a line break is Enter.
    #[arg(allow_hyphen_values = true)]
    pub(crate) text: String,
    /// Press Enter at the end.
    #[arg(long)]
    pub(crate) enter: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Name or id.
    pub(crate) vm: String,
    /// Which log.
    #[arg(long, value_enum, default_value = "qemu")]
    pub(crate) log: LogArg,
    /// How much of its end.
    #[arg(long, value_name = "SIZE")]
    pub(crate) tail: Option<Bytes>,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Loopback address and port of the page and the API; 127.0.0.1 and the port of the settings without.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Print the address with its token even where the output is no terminal.
    #[arg(long)]
    pub(crate) print_url: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum FirmwareArg {
    Bios,
    Uefi,
    /// Starts only what Microsoft's keys have signed.
    UefiSecure,
}

impl From<FirmwareArg> for Firmware {
    fn from(arg: FirmwareArg) -> Self {
        match arg {
            FirmwareArg::Bios => Self::Bios,
            FirmwareArg::Uefi => Self::Uefi,
            FirmwareArg::UefiSecure => Self::UefiSecure,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum AccelArg {
    Auto,
    Kvm,
    Tcg,
}

impl From<AccelArg> for Accel {
    fn from(arg: AccelArg) -> Self {
        match arg {
            AccelArg::Auto => Self::Auto,
            AccelArg::Kvm => Self::Kvm,
            AccelArg::Tcg => Self::Tcg,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogArg {
    /// QEMU's own words of the last run.
    Qemu,
    /// The guest's serial port of the last run.
    Serial,
}

/// Reads an amount of memory; a bare number is MiB, as people write it for QEMU.
pub(crate) fn memory(text: &str) -> Result<MiB, String> {
    let bytes = match text.trim().parse::<u64>() {
        Ok(mib) => return Ok(MiB(mib)),
        Err(_) => text.parse::<Bytes>().map_err(|error| error.to_string())?,
    };
    if bytes.0 % (1 << 20) == 0 {
        Ok(bytes.mib())
    } else {
        Err(format!("{text:?} is not a whole number of MiB"))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn memory_is_read_as_people_write_it() {
        assert_eq!(memory("512"), Ok(MiB(512)));
        assert_eq!(memory("2G"), Ok(MiB(2048)));
        assert_eq!(memory("256M"), Ok(MiB(256)));
        assert!(memory("1500K").is_err());
        assert!(memory("much").is_err());
    }

    #[test]
    fn sources_exclude_each_other() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("voidvm create a --demo").is_ok());
        assert!(parse("voidvm create a --image x --in-place --json").is_ok());
        assert!(parse("voidvm create a --iso x --disk 20G --forward 8080:80 --forward 5353:53/udp").is_ok());
        assert!(parse("voidvm create a --from-spec f --demo").is_ok());
        assert!(parse("voidvm snapshot create a b --disk-only --freeze --tag x --tag y").is_ok());
        assert!(parse("voidvm snapshot fork a b c --count 10 --start").is_ok());
        assert!(parse("voidvm group snapshot create a b --disk-only --freeze --description x").is_ok());
        assert!(parse("voidvm group snapshot restore a b --to running --no-safety").is_ok());
        assert!(parse("voidvm group snapshot fork a b c --start").is_ok());
        for wrong in [
            "voidvm create a",
            "voidvm create a --demo --iso x",
            "voidvm create a --image x --iso y",
            "voidvm create a --demo --in-place",
            "voidvm create a --demo --firmware coreboot",
            "voidvm create a --demo --forward 80",
            "voidvm stop a --force --timeout 5",
            "voidvm start",
            "voidvm snapshot create a --freeze",
            "voidvm group snapshot create",
            "voidvm group snapshot fork a b",
            "voidvm snapshot restore a b --to paused",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
