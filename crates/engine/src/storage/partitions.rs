//! Up to where a disk's partitions reach, by its first bytes. Pure.

/// What the first bytes of a disk say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Nothing is on it yet.
    Empty,
    /// Partitions, up to this byte; the second copy of a GPT counts.
    Table { end: u64, gpt: bool },
    /// Something without partitions: how far it reaches cannot be known.
    Unknown,
}

/// Reads the first MiB of a disk.
pub(super) fn layout(first: &[u8]) -> Layout {
    for sector in [512_usize, 4096] {
        if first.get(sector..sector + 8) == Some(b"EFI PART") {
            let (second_copy, last_usable) = (le(first, sector + 32, 8), le(first, sector + 48, 8));
            let end =
                second_copy.max(last_usable).and_then(|last| last.checked_add(1)?.checked_mul(sector as u64));
            return end.map_or(Layout::Unknown, |end| Layout::Table { end, gpt: true });
        }
    }
    if first.iter().all(|byte| *byte == 0) {
        return Layout::Empty;
    }
    if first.get(510..512) != Some(b"\x55\xaa") {
        return Layout::Unknown;
    }
    let mut end = None;
    for at in (446..510).step_by(16) {
        let (status, kind) = (first.get(at), first.get(at + 4));
        // Another status means that a boot loader's code lies here and no table.
        if !matches!(status, Some(0 | 0x80)) {
            return Layout::Unknown;
        }
        if kind != Some(&0)
            && let (Some(start), Some(count)) = (le(first, at + 8, 4), le(first, at + 12, 4))
        {
            end = end.max(Some((start + count) * 512));
        }
    }
    end.map_or(Layout::Unknown, |end| Layout::Table { end, gpt: false })
}

fn le(bytes: &[u8], at: usize, count: usize) -> Option<u64> {
    Some(bytes.get(at..at + count)?.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mbr(entries: &[(u8, u32, u32)]) -> Vec<u8> {
        let mut disk = vec![0; 1 << 20];
        for (at, (kind, start, count)) in entries.iter().enumerate() {
            let entry = &mut disk[446 + 16 * at..462 + 16 * at];
            entry[4] = *kind;
            entry[8..12].copy_from_slice(&start.to_le_bytes());
            entry[12..16].copy_from_slice(&count.to_le_bytes());
        }
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk
    }

    #[test]
    fn the_last_partition_ends_the_table() {
        assert_eq!(layout(&[0; 1 << 20]), Layout::Empty);
        assert_eq!(layout(&[]), Layout::Empty);
        let two = mbr(&[(0x83, 2048, 4096), (0x05, 8192, 100)]);
        assert_eq!(layout(&two), Layout::Table { end: 8292 * 512, gpt: false });
        // The largest there can be does not overflow.
        let huge = mbr(&[(0x83, u32::MAX, u32::MAX)]);
        assert_eq!(layout(&huge), Layout::Table { end: u64::from(u32::MAX) * 2 * 512, gpt: false });
    }

    #[test]
    fn the_second_copy_of_a_gpt_ends_it() {
        for sector in [512, 4096] {
            let mut disk = mbr(&[(0xee, 1, u32::MAX)]);
            disk[sector..sector + 8].copy_from_slice(b"EFI PART");
            disk[sector + 32..sector + 40].copy_from_slice(&9999_u64.to_le_bytes());
            disk[sector + 48..sector + 56].copy_from_slice(&9966_u64.to_le_bytes());
            assert_eq!(layout(&disk), Layout::Table { end: 10_000 * sector as u64, gpt: true });
            disk[sector + 32..sector + 40].copy_from_slice(&u64::MAX.to_le_bytes());
            assert_eq!(layout(&disk), Layout::Unknown);
        }
    }

    #[test]
    fn what_has_no_table_is_not_guessed() {
        assert_eq!(layout(&mbr(&[])), Layout::Unknown, "a boot sector without partitions");
        let mut boot = mbr(&[(0x83, 1, 1)]);
        boot[446] = 0x33;
        assert_eq!(layout(&boot), Layout::Unknown, "code where the table would be");
        let mut filesystem = vec![0; 1 << 20];
        filesystem[1080] = 0x53;
        assert_eq!(layout(&filesystem), Layout::Unknown);
    }
}
