//! How to log in to a guest that cloud-init prepared: its seed, the key made for it, and who may come in.
//!
//! In the machine's directory: `seed.iso`, `login.json`, and where a key was wanted `id_ed25519` with its `.pub`. No password is
//! in any of them but as its hash in the seed.

use std::path::Path;

use serde::{Deserialize, Serialize};
use voidvm_model::contract::{CloudInit, SshAccess};
use voidvm_model::{ErrorBody, ErrorCode, MachineSpec, VmId};
use voidvm_seed::{KeyPair, Seed};

use super::{build, files};

/// What is remembered.
#[derive(Serialize, Deserialize)]
struct Login {
    user: String,
}

/// Writes the seed, the key and who may come in.
pub(crate) fn make_seed(dir: &Path, (id, name): (VmId, &str), request: &CloudInit) -> Result<(), ErrorBody> {
    let mut keys = Vec::new();
    if request.generate_key {
        let pair = KeyPair::generate(&format!("voidvm {name}")).map_err(|error| {
            ErrorBody::new(ErrorCode::Internal, format!("No key could be made: {error}."))
        })?;
        let key = files::ssh_key(dir);
        build::write_file(&key, pair.private.as_bytes())?;
        build::write_file(&key.with_extension("pub"), format!("{}\n", pair.public).as_bytes())?;
        keys.push(pair.public);
    }
    let seed = Seed::new(request, name, &instance(id), &keys)?;
    build::write_file(&files::seed(dir), &seed.image())?;
    let login = serde_json::to_vec(&Login { user: request.user.clone() })
        .map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))?;
    build::write_file(&files::login(dir), &login)
}

/// Gives the seed of a copy an instance and a host name of its own, so that cloud-init acts in it as in a new machine. One that
/// is not there, or not as it was made, stays as it is.
pub(crate) fn renew_seed(dir: &Path, (id, name): (VmId, &str)) -> Result<(), ErrorBody> {
    let file = files::seed(dir);
    let bytes = match std::fs::read(&file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(files::io_error(&file, &error)),
    };
    if let Some(seed) = Seed::read(&bytes).and_then(|seed| seed.renewed(name, &instance(id))) {
        return build::write_file(&file, &seed.image());
    }
    tracing::warn!(vm = %id, "the seed is not as it was made: cloud-init takes the copy for the original");
    Ok(())
}

/// By what cloud-init tells one machine from another.
fn instance(id: VmId) -> String {
    format!("iid-{id}")
}

/// How to reach the guest: by a forward to its port 22, or at `address` where there is none. `None` when it is not known who may
/// come in, or no way leads there.
pub(crate) fn access(dir: &Path, spec: &MachineSpec, address: Option<String>) -> Option<SshAccess> {
    let login: Login = serde_json::from_slice(&std::fs::read(files::login(dir)).ok()?).ok()?;
    let forward = spec.forwards().find(|forward| forward.guest_port == 22);
    let (host, port) = match forward {
        Some(forward) if forward.host_address.is_unspecified() => ("127.0.0.1".to_owned(), forward.host_port),
        Some(forward) => (forward.host_address.to_string(), forward.host_port),
        None => (address?, 22),
    };
    let key = files::ssh_key(dir);
    let key_file = key.is_file().then(|| key.to_string_lossy().into_owned());
    // A port of the host leads to one guest today and to another tomorrow: what is known of them is kept apart.
    let known = files::known_hosts(dir);
    let mut words = vec!["ssh".to_owned()];
    if let Some(key) = &key_file {
        words.extend(["-i".to_owned(), quoted(key), "-o".to_owned(), "IdentitiesOnly=yes".to_owned()]);
    }
    words.extend([
        "-p".to_owned(),
        port.to_string(),
        "-o".to_owned(),
        "StrictHostKeyChecking=accept-new".to_owned(),
        "-o".to_owned(),
        quoted(&format!("UserKnownHostsFile=\"{}\"", known.to_string_lossy())),
        format!("{}@{host}", login.user),
    ]);
    Some(SshAccess { user: login.user, host, port, key_file, command: words.join(" ") })
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=@:+,".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use voidvm_model::MiB;
    use voidvm_model::spec::{NetworkBackend, Nic, PortForward};

    use super::*;

    #[test]
    fn the_way_in_is_the_forward_with_the_machines_own_key() {
        let dir = tempfile::Builder::new().prefix("it's a").tempdir().unwrap();
        let mut spec = MachineSpec::new(1, MiB(64));
        assert!(access(dir.path(), &spec, Some("10.0.0.5".to_owned())).is_none(), "nobody is known");
        let request: CloudInit = serde_json::from_str(r#"{"user": "ada", "generateKey": true}"#).unwrap();
        make_seed(dir.path(), (VmId::new(), "lab"), &request).unwrap();
        assert!(access(dir.path(), &spec, None).is_none(), "no way leads there");
        let direct = access(dir.path(), &spec, Some("10.0.0.5".to_owned())).unwrap();
        assert_eq!((direct.host.as_str(), direct.port), ("10.0.0.5", 22));
        spec.nics.push(Nic::new(
            "nic0".parse().unwrap(),
            "52:54:00:00:00:01".to_owned().try_into().unwrap(),
            NetworkBackend::user(vec![PortForward::tcp(8080, 80), PortForward::tcp(2222, 22)]),
        ));
        let forwarded = access(dir.path(), &spec, None).unwrap();
        assert_eq!((forwarded.host.as_str(), forwarded.port), ("127.0.0.1", 2222));
        // A shell takes it apart as it was meant.
        let script = format!("printf '%s\\n' {}", forwarded.command);
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let words = String::from_utf8(output.stdout).unwrap();
        let key = dir.path().join("id_ed25519");
        assert!(words.lines().any(|word| word == key.to_str().unwrap()), "{words}");
        assert!(words.lines().last() == Some("ada@127.0.0.1"));
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&key).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }
}
