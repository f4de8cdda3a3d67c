//! The run record: any file is a record that says the same when it is written again, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use voidvm_qemu::process::RunRecord;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = RunRecord::decode(bytes) {
        let written = serde_json::to_vec(&record).expect("a record that was read can be written");
        assert_eq!(RunRecord::decode(&written).as_ref(), Ok(&record));
    }
});
