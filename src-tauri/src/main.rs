//! The desktop app's executable.

fn main() {
    voidvm_desktop::run();
}
