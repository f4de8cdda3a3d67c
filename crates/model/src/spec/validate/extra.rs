//! The user's own arguments for QEMU: anything goes but what would take the machine out of our hands.

use super::refuse;
use crate::error::ErrorBody;

/// The most words.
const WORDS: usize = 128;
/// The longest word in bytes.
const WORD: usize = 4096;

/// Options that are refused among a machine's own arguments, each with the reason as the end of a sentence: with them voidVM
/// could not start, find, watch or stop the machine any more, or what it shows of it would not be so.
const REFUSED_OPTIONS: &[(&[&str], &str)] = &[
    (&["S", "preconfig", "incoming", "loadvm"], "voidVM itself decides when and from what the guest starts"),
    (
        &["daemonize", "pidfile", "runas", "chroot", "run-with"],
        "voidVM watches the process it has started itself",
    ),
    (&["qmp", "qmp-pretty", "mon", "monitor"], "voidVM itself speaks with QEMU's monitor"),
    (&["sandbox"], "the sandbox keeps a broken guest away from your files"),
    (&["uuid", "name"], "voidVM finds the machine's process by them"),
    (&["no-shutdown", "action"], "voidVM decides what a shutdown does"),
    (&["readconfig", "writeconfig"], "a file could hold any of the options that are refused"),
    (
        &["m", "smp", "accel", "enable-kvm", "no-kvm"],
        "the machine has settings for CPUs, memory and acceleration",
    ),
    (&["vnc", "nographic", "curses"], "voidVM itself shows the screen"),
    (&["h", "help", "version", "dump-vmstate"], "QEMU would print something and end"),
];

pub(super) fn validate(words: &[String]) -> Result<(), ErrorBody> {
    if words.len() > WORDS {
        return refuse(
            "spec.extraArgs",
            format!("{} more arguments are too many; at most {WORDS}.", words.len()),
            "Remove some.",
        );
    }
    for (index, word) in words.iter().enumerate() {
        let field = format!("spec.extraArgs[{index}]");
        if word.len() > WORD {
            return refuse(field, "The argument is too long.", "Use at most 4096 bytes.");
        }
        if word.chars().any(char::is_control) {
            return refuse(
                field,
                "The argument has a line break or another control character.",
                "Write each argument on a line of its own, without quotes.",
            );
        }
        if index == 0 && !word.starts_with('-') {
            return refuse(
                field,
                format!("{word:?} is not an option; QEMU would take it for a disk."),
                "Begin with an option such as -device, its value in the next line.",
            );
        }
        let Some(option) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { continue };
        // QEMU reads `-option=value` as an unknown option, so the whole word is the option.
        if let Some((_, reason)) = REFUSED_OPTIONS.iter().find(|(options, _)| options.contains(&option)) {
            return refuse(field, format!("{word} cannot be used: {reason}."), "Remove it.");
        }
    }
    Ok(())
}
