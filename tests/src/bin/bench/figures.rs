//! Medians and ratios, and the memory of a set of processes.

use std::time::Duration;

/// The middle of the values, and the one that 99 in 100 do not exceed.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The value that a share `q` of all do not exceed.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index below the length")]
    let at = ((sorted.len() - 1) as f64 * q).round() as usize;
    sorted[at]
}

/// A duration in milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Prints the two series, and the ratio pair by pair.
pub fn compare(ours: (&str, &[f64]), theirs: (&str, &[f64]), unit: &str) {
    let ratios: Vec<f64> = ours.1.iter().zip(theirs.1).map(|(a, b)| a / b).collect();
    for (name, values) in [ours, theirs] {
        println!(
            "{name:<34} median {:>8.1} {unit}   (min {:.1}, max {:.1}, {} runs)",
            median(values),
            quantile(values, 0.0),
            quantile(values, 1.0),
            values.len()
        );
    }
    println!("{:<34} median {:>8.2} x", "ratio, pair by pair", median(&ratios));
}

/// Proportional set size of a process, in MiB (`/proc/PID/smaps_rollup`, proc(5)).
pub fn pss(pid: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// A process and all that it started, the QEMU processes left out.
pub fn family(root: u32) -> Vec<(u32, String)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(')') else { continue };
        let name = head.split_once('(').map_or("", |(_, name)| name).to_owned();
        let parent: u32 = tail.split_whitespace().nth(1).and_then(|field| field.parse().ok()).unwrap_or(0);
        all.push((pid, parent, name));
    }
    let mut family: Vec<(u32, String)> =
        all.iter().filter(|(pid, ..)| *pid == root).map(|(pid, _, name)| (*pid, name.clone())).collect();
    let mut at = 0;
    while at < family.len() {
        let parent = family[at].0;
        family.extend(
            all.iter()
                .filter(|(_, of, name)| *of == parent && !name.starts_with("qemu-system"))
                .map(|(pid, _, name)| (*pid, name.clone())),
        );
        at += 1;
    }
    family
}
