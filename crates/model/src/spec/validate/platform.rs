//! Chipset, processor, memory, firmware.

use super::super::{CPUS, CpuModel, CpuTopology, Firmware, MEMORY, MachineSpec, MachineType};
use super::refuse;
use crate::error::ErrorBody;

/// Bounds of a topology's sockets.
const SOCKETS: std::ops::RangeInclusive<u16> = 1..=64;
/// Bounds of a topology's threads.
const THREADS: std::ops::RangeInclusive<u16> = 1..=2;
/// Every virtual CPU has a number of eight bits, of which each level of the topology takes whole bits.
const CPU_NUMBERS: u32 = 256;

pub(super) fn validate(spec: &MachineSpec) -> Result<(), ErrorBody> {
    if let Some(version) = &spec.machine_version
        && !version.is_of(spec.machine)
    {
        return refuse(
            "spec.machineVersion",
            format!("{} is not a version of this machine's chipset.", version.as_str()),
            "Choose a version that begins with pc-q35 for Q35 and pc-i440fx for i440FX, or leave it open.",
        );
    }
    cpus(spec)?;
    cpu_model(&spec.cpu_model)?;
    memory(spec)?;
    if spec.firmware == Firmware::UefiSecure && spec.machine != MachineType::Q35 {
        return refuse(
            "spec.firmware",
            "Secure Boot needs the Q35 chipset.",
            "Choose Q35, or UEFI without Secure Boot.",
        );
    }
    Ok(())
}

fn cpus(spec: &MachineSpec) -> Result<(), ErrorBody> {
    if !CPUS.contains(&spec.cpus) {
        return refuse("spec.cpus", format!("{} CPUs cannot be had.", spec.cpus), "Choose 1 to 255.");
    }
    let most = spec.max_cpus.unwrap_or(spec.cpus);
    if !CPUS.contains(&most) || most < spec.cpus {
        return refuse(
            "spec.maxCpus",
            format!("{most} CPUs cannot be the most of a machine that starts with {}.", spec.cpus),
            "Choose at least as many as it starts with, 255 at most.",
        );
    }
    if most > spec.cpus && spec.machine != MachineType::Q35 {
        return refuse(
            "spec.maxCpus",
            "CPUs can be added while the machine runs on the Q35 chipset only.",
            "Choose Q35, or leave the most CPUs open.",
        );
    }
    match &spec.topology {
        Some(topology) => arrangement(topology, most),
        None => Ok(()),
    }
}

fn arrangement(topology: &CpuTopology, most: u16) -> Result<(), ErrorBody> {
    let CpuTopology { sockets, cores, threads } = *topology;
    for (part, value, bounds, hint) in [
        ("sockets", sockets, SOCKETS, "Choose 1 to 64 sockets."),
        ("cores", cores, CPUS, "Choose 1 to 255 cores."),
        ("threads", threads, THREADS, "Choose 1 or 2 threads for each core."),
    ] {
        if !bounds.contains(&value) {
            return refuse(format!("spec.topology.{part}"), format!("{value} {part} cannot be had."), hint);
        }
    }
    let product = u32::from(sockets) * u32::from(cores) * u32::from(threads);
    if product != u32::from(most) {
        return refuse(
            "spec.topology",
            format!(
                "{sockets} sockets of {cores} cores with {threads} threads make {product} CPUs, not {most}."
            ),
            "Let sockets × cores × threads be the most CPUs the machine can have.",
        );
    }
    let numbers = |count: u16| u32::from(count).next_power_of_two();
    let last = (u32::from(sockets) - 1) * numbers(cores) * numbers(threads)
        + (u32::from(cores) - 1) * numbers(threads)
        + u32::from(threads);
    if last >= CPU_NUMBERS {
        return refuse(
            "spec.topology",
            "The CPUs cannot be numbered in this arrangement.",
            "Use fewer sockets, or a power of two of cores for each.",
        );
    }
    Ok(())
}

fn cpu_model(model: &CpuModel) -> Result<(), ErrorBody> {
    let CpuModel::Named { name } = model else { return Ok(()) };
    let field = "spec.cpuModel.name";
    if matches!(name.as_str(), "host" | "max") {
        return refuse(
            field,
            format!("{name:?} is what automatic chooses, where it works."),
            "Choose the automatic model.",
        );
    }
    let sound = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !sound {
        return refuse(
            field,
            format!("{name:?} is not the name of a CPU model."),
            "Choose a model QEMU knows, such as qemu64 or Skylake-Client-v3, or the automatic one.",
        );
    }
    Ok(())
}

fn memory(spec: &MachineSpec) -> Result<(), ErrorBody> {
    let memory = spec.memory.0;
    if !MEMORY.contains(&memory) {
        return refuse(
            "spec.memory",
            format!("{memory} MiB of memory cannot be had."),
            "Choose 32 MiB to 4 TiB.",
        );
    }
    let Some(most) = spec.max_memory else { return Ok(()) };
    if !MEMORY.contains(&most.0) || most.0 < memory {
        return refuse(
            "spec.maxMemory",
            format!("{} MiB cannot be the most memory of a machine that starts with {memory} MiB.", most.0),
            "Choose at least as much as it starts with, 4 TiB at most.",
        );
    }
    if most.0 > memory && spec.machine != MachineType::Q35 {
        return refuse(
            "spec.maxMemory",
            "Memory can be added while the machine runs on the Q35 chipset only.",
            "Choose Q35, or leave the most memory open.",
        );
    }
    Ok(())
}
