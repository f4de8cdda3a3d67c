//! Blocks against a plain list of what was put in.

use std::collections::BTreeMap;

use proptest::prelude::*;
use voidvm_series::{Block, SLOTS, Value};

proptest! {
    #[test]
    fn what_is_stored_is_what_was_set(
        step in prop::sample::select(vec![15_u32, 60, 900]),
        start in -1_000_000_i64..2_000_000_000,
        values in prop::collection::vec((0_u8..20, 0..SLOTS, -1e12_f32..1e12, 0.0_f32..1e6), 0..400),
    ) {
        let mut block = Block::at(step, start);
        let mut model = BTreeMap::new();
        for (key, slot, mean, above) in values {
            let time = block.start() + i64::try_from(slot).unwrap() * i64::from(step);
            let value = Value { mean, peak: mean + above };
            block.set(key, time, value);
            model.insert((key, slot), value);
        }
        let read = Block::decode(step, start, &block.encode().unwrap()).unwrap();
        for key in 0..20 {
            for slot in 0..SLOTS {
                let time = read.start() + i64::try_from(slot).unwrap() * i64::from(step);
                prop_assert_eq!(read.get(key, time), model.get(&(key, slot)).copied());
            }
            let all = model.iter().filter(|((of, _), _)| *of == key).map(|(_, value)| *value);
            let all: Vec<Value> = all.collect();
            match read.over(key, read.start(), read.end()) {
                None => prop_assert!(all.is_empty()),
                Some((value, count)) => {
                    prop_assert_eq!(usize::try_from(count).unwrap(), all.len());
                    prop_assert_eq!(value.peak, all.iter().map(|one| one.peak).fold(f32::NEG_INFINITY, f32::max));
                }
            }
        }
    }

    #[test]
    fn whatever_is_read_makes_no_trouble(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let mut stored = vec![1];
        stored.extend(&bytes);
        drop(Block::decode(15, 0, &stored));
        stored.truncate(1);
        stored.extend(zstd::bulk::compress(&bytes, 1).unwrap());
        drop(Block::decode(15, 0, &stored));
    }
}
