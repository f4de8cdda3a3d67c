//! The few words the app says without a page (tray and notices), in the languages of the app.

use voidvm_model::settings::Language;

/// A language of the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tongue {
    /// English.
    English,
    /// 简体中文.
    Chinese,
}

impl Tongue {
    /// The tongue of a setting, or of the desktop (`LC_ALL`, `LC_MESSAGES`, `LANG`, in that order).
    #[must_use]
    pub fn of(language: Language) -> Self {
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

    /// The menu's way to the window.
    #[must_use]
    pub fn open(self) -> &'static str {
        match self {
            Self::English => "Open voidVM",
            Self::Chinese => "打开 voidVM",
        }
    }

    /// The menu's way out.
    #[must_use]
    pub fn quit(self) -> &'static str {
        match self {
            Self::English => "Quit (machines go on)",
            Self::Chinese => "退出（虚拟机继续运行）",
        }
    }

    /// How many machines run.
    #[must_use]
    pub fn running(self, count: usize) -> String {
        match (self, count) {
            (Self::English, 0) => "No machine is running".into(),
            (Self::English, 1) => "1 machine is running".into(),
            (Self::English, count) => format!("{count} machines are running"),
            (Self::Chinese, 0) => "没有正在运行的虚拟机".into(),
            (Self::Chinese, count) => format!("{count} 台虚拟机正在运行"),
        }
    }

    /// That a machine has crashed.
    #[must_use]
    pub fn crashed(self, name: &str) -> String {
        match self {
            Self::English => format!("{name} has stopped unexpectedly"),
            Self::Chinese => format!("{name} 意外停止"),
        }
    }

    /// That a schedule could not take its snapshots.
    #[must_use]
    pub fn schedule_failed(self, name: &str) -> String {
        match self {
            Self::English => format!("The schedule {name} has failed"),
            Self::Chinese => format!("计划“{name}”执行失败"),
        }
    }
}
