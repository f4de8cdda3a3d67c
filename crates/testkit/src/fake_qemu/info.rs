//! What QEMU prints when it is asked about itself.

use voidvm_testkit::Plan;

/// Answers `-version` and `-OPTION help` as the plan says.
pub(crate) fn answer(question: &str, plan: &Plan) {
    if question == "version" {
        crate::misbehave(plan, "version");
        if Plan::is(plan.garbage_at.as_ref(), "version") {
            println!("\u{1}\u{2} this is not the program you are looking for");
            return;
        }
    }
    match question {
        "version" => println!(
            "QEMU emulator version {} (fake)\nCopyright (c) 2003-2022 Fabrice Bellard and the QEMU Project developers",
            plan.version
        ),
        "accel" => println!("Accelerators supported in QEMU binary:\ntcg\nkvm"),
        "machine" | "M" => println!(
            "Supported machines are:\npc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)\n\
             q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)\n\
             pc-i440fx-7.2        Standard PC (i440FX + PIIX, 1996) (default)\n\
             pc-q35-7.2           Standard PC (Q35 + ICH9, 2009)\nnone                 empty machine"
        ),
        "cpu" => {
            println!(
                "Available CPUs:\nx86 qemu64                (alias configured by machine type)\nx86 max"
            );
        }
        "device" => {
            for name in DEVICES {
                println!("name \"{name}\", bus PCI");
            }
        }
        "netdev" => {
            println!("Available netdev backend types:\nsocket\nstream\ndgram\nhubport\ntap\nuser\nbridge");
        }
        "chardev" => {
            println!("Available chardev backend types:\n  socket\n  file\n  null\n  stdio\n  qemu-vdagent");
        }
        "audiodev" => println!("Available audio drivers:\nnone\nwav"),
        _ => println!("usage: qemu-system-x86_64 [options] [disk_image]"),
    }
}

const DEVICES: &[&str] = &[
    "virtio-vga",
    "VGA",
    "qxl-vga",
    "virtio-scsi-pci",
    "nvme",
    "e1000e",
    "vhost-user-fs-pci",
    "virtio-9p-pci",
    "usb-host",
    "hda-output",
    "tpm-crb",
    "tpm-tis",
    "i6300esb",
    "vhost-vsock-pci",
    "qemu-xhci",
    "usb-tablet",
    "virtio-serial-pci",
    "virtserialport",
    "virtio-balloon-pci",
    "virtio-rng-pci",
    "virtio-blk-pci",
    "virtio-net-pci",
    "ide-cd",
    "isa-serial",
    "pcie-root-port",
    "isa-debug-exit",
    "isa-debugcon",
];
