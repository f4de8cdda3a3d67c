//! What a QEMU says it has, read from its `help` lists.
//!
//! A list that could not be had is not an empty one: then everything is taken as there, and QEMU itself says what is not.

use std::collections::BTreeSet;

use voidvm_model::spec::{MachineType, MachineVersion};

/// Names of one kind; unknown where QEMU did not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers(Option<BTreeSet<String>>);

impl Offers {
    /// Exactly these.
    pub fn just<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(Some(names.into_iter().map(str::to_owned).collect()))
    }

    /// Whether it has this, or may have it.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|names| names.contains(name))
    }

    /// The names, in order; none where QEMU did not say.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flatten().map(String::as_str)
    }

    /// `name "virtio-vga", bus PCI, alias …` each line, headings between them. An alias is as good as the name.
    pub(super) fn of_devices(text: Option<&str>) -> Self {
        let names = |line: &str| {
            let quoted = |key: &str| Some(line.split_once(key)?.1.split_once('"')?.0.to_owned());
            [quoted("name \""), quoted("alias \"")]
        };
        Self(text.map(|text| text.lines().flat_map(names).flatten().collect()))
    }

    /// A name each line, below a heading of several words.
    pub(super) fn of_words(text: Option<&str>) -> Self {
        let one = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            words.next().filter(|_| words.next().is_none()).map(str::to_owned)
        };
        Self(text.map(|text| text.lines().filter_map(one).collect()))
    }

    /// `x86 qemu64   (alias …)` each line in QEMU up to 9, without the `x86` since; flags follow.
    pub(super) fn of_cpus(text: Option<&str>) -> Self {
        let name = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let first = words.next()?;
            if first == "x86" { words.next() } else { Some(first) }.map(str::to_owned)
        };
        let models = |text: &str| {
            text.lines().skip(1).take_while(|line| !line.starts_with("Recognized")).filter_map(name).collect()
        };
        Self(text.map(models))
    }
}

/// The machine types of one QEMU, and which of them is meant by `q35` and `pc`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineTypes {
    /// Every name.
    pub names: Offers,
    q35: Option<MachineVersion>,
    i440fx: Option<MachineVersion>,
}

impl MachineTypes {
    /// The version a machine of this chipset gets when it has not settled on one; `None` where QEMU did not say.
    #[must_use]
    pub const fn newest(&self, machine: MachineType) -> Option<&MachineVersion> {
        match machine {
            MachineType::Q35 => self.q35.as_ref(),
            MachineType::I440fx => self.i440fx.as_ref(),
        }
    }

    /// `q35   Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)` each line, below a heading.
    pub(super) fn of(text: Option<&str>) -> Self {
        let lines = || text.unwrap_or_default().lines().skip(1);
        let name = |line: &str| line.split_ascii_whitespace().next().map(str::to_owned);
        let alias = |wanted: &str| {
            lines().find_map(|line| {
                let (name, rest) = line.split_once(' ')?;
                let (_, meant) = rest.split_once("(alias of ").filter(|_| name == wanted)?;
                MachineVersion::try_from(meant.split_once(')')?.0.to_owned()).ok()
            })
        };
        Self {
            names: Offers(text.map(|_| lines().filter_map(name).collect())),
            q35: alias("q35"),
            i440fx: alias("pc"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_qemu_prints_them() {
        let devices = Offers::of_devices(Some(
            "Controller/Bridge/Hub devices:\nname \"i82801b11-bridge\", bus PCI\n\nNetwork devices:\n\
             name \"virtio-net-pci\", bus PCI, alias \"virtio-net\"\nname \"tpm-crb\"\n",
        ));
        assert_eq!(
            devices.names().collect::<Vec<_>>(),
            ["i82801b11-bridge", "tpm-crb", "virtio-net", "virtio-net-pci"]
        );
        assert!(devices.has("tpm-crb") && !devices.has("PCI") && !devices.has("virtio-vga"));

        let netdevs = Offers::of_words(Some("Available netdev backend types:\nsocket\nuser\n"));
        assert!(netdevs.has("user") && !netdevs.has("Available"));
        let chardevs =
            Offers::of_words(Some("Available chardev backend types: \n  qemu-vdagent\n  socket\n"));
        assert!(chardevs.has("qemu-vdagent") && !chardevs.has("spicevmc"));

        let old = "Available CPUs:\nx86 qemu64                (alias configured by machine type)\nx86 base\n\n\
                   Recognized CPUID flags:\n  3dnow sse\n";
        let new = old.replace("x86 ", "  ");
        for text in [old, &new] {
            let cpus = Offers::of_cpus(Some(text));
            assert!(cpus.has("qemu64") && cpus.has("base") && !cpus.has("x86") && !cpus.has("sse"), "{text}");
        }
    }

    #[test]
    fn the_version_behind_an_alias_is_found() {
        let machines = MachineTypes::of(Some(
            "Supported machines are:\nmicrovm              microvm (i386)\n\
             pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)\n\
             pc-i440fx-7.2        Standard PC (i440FX + PIIX, 1996) (default)\n\
             q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)\n\
             pc-q35-7.2           Standard PC (Q35 + ICH9, 2009)\n",
        ));
        assert_eq!(machines.newest(MachineType::Q35).unwrap().as_str(), "pc-q35-7.2");
        assert_eq!(machines.newest(MachineType::I440fx).unwrap().as_str(), "pc-i440fx-7.2");
        assert!(machines.names.has("pc-q35-7.2") && !machines.names.has("pc-q35-9.9"));
    }

    #[test]
    fn what_could_not_be_asked_may_be_there() {
        assert!(Offers::default().has("anything") && Offers::of_devices(None).has("anything"));
        assert!(!Offers::of_devices(Some("")).has("anything"));
        assert!(MachineTypes::of(None).newest(MachineType::Q35).is_none());
    }
}
