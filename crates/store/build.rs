//! A new migration is a reason to build the store again; the macro that embeds them does not see new files by itself.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
