//! The few words the shell says itself (tray and notices), in the languages of the app.

use voidvm_model::settings::Language;

/// A language the shell speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tongue {
    English,
    Chinese,
}

impl Tongue {
    /// The tongue of a setting, or of the desktop (`LC_ALL`, `LC_MESSAGES`, `LANG`, in that order).
    pub(crate) fn of(language: Language) -> Self {
        match language {
            Language::English => Self::English,
            Language::SimplifiedChinese => Self::Chinese,
            Language::System => {
                let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
                let locale = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(set);
                if locale.is_some_and(|locale| locale.starts_with("zh")) {
                    Self::Chinese
                } else {
                    Self::English
                }
            }
        }
    }

    pub(crate) fn open(self) -> &'static str {
        match self {
            Self::English => "Open voidVM",
            Self::Chinese => "打开 voidVM",
        }
    }

    pub(crate) fn quit(self) -> &'static str {
        match self {
            Self::English => "Quit (machines go on)",
            Self::Chinese => "退出（虚拟机继续运行）",
        }
    }

    pub(crate) fn running(self, count: usize) -> String {
        match (self, count) {
            (Self::English, 0) => "No machine is running".into(),
            (Self::English, 1) => "1 machine is running".into(),
            (Self::English, count) => format!("{count} machines are running"),
            (Self::Chinese, 0) => "没有正在运行的虚拟机".into(),
            (Self::Chinese, count) => format!("{count} 台虚拟机正在运行"),
        }
    }

    pub(crate) fn crashed(self, name: &str) -> String {
        match self {
            Self::English => format!("{name} has stopped unexpectedly"),
            Self::Chinese => format!("{name} 意外停止"),
        }
    }
}
