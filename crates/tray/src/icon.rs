//! The icon in the tray (StatusNotifierItem) and its menu: the way back to the window, and out of the app.

use ksni::menu::{MenuItem, StandardItem};
use ksni::{Handle, ToolTip, Tray, TrayMethods as _};
use tokio::sync::mpsc;

use crate::APP_ID;
use crate::words::Tongue;

/// The app's picture, 64 by 64.
const PICTURE: &[u8] = include_bytes!("../../../icons/tray.png");

/// What was asked for at the icon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The window.
    Open,
    /// The end of the app.
    Quit,
}

/// The icon, there until dropped.
#[derive(Clone)]
pub struct Icon(Handle<Item>);

impl std::fmt::Debug for Icon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Icon").finish_non_exhaustive()
    }
}

impl Icon {
    /// Puts the icon there; what is asked for at it goes to `wishes`.
    ///
    /// # Errors
    /// When this desktop has no tray: nobody would see the icon.
    pub async fn show(wishes: mpsc::Sender<Wish>) -> Result<Self, ksni::Error> {
        let picture = picture().into_iter().collect();
        Item { wishes, picture, tongue: Tongue::English, running: 0 }.spawn().await.map(Self)
    }

    /// Says how many machines run, in `tongue`.
    pub async fn say(&self, tongue: Tongue, running: usize) {
        self.0
            .update(|item| {
                item.tongue = tongue;
                item.running = running;
            })
            .await;
    }

    /// Takes the icon away.
    pub async fn remove(self) {
        self.0.shutdown().await;
    }
}

struct Item {
    wishes: mpsc::Sender<Wish>,
    picture: Vec<ksni::Icon>,
    tongue: Tongue,
    running: usize,
}

impl Item {
    fn wish(&self, wish: Wish) {
        // A full queue means that somebody clicks faster than windows open.
        let _ = self.wishes.try_send(wish);
    }
}

impl Tray for Item {
    fn id(&self) -> String {
        APP_ID.into()
    }

    fn title(&self) -> String {
        "voidVM".into()
    }

    fn icon_pixmap(&self) -> Vec<ksni::Icon> {
        self.picture.clone()
    }

    fn tool_tip(&self) -> ToolTip {
        ToolTip {
            title: "voidVM".into(),
            description: self.tongue.running(self.running),
            ..ToolTip::default()
        }
    }

    fn activate(&mut self, _x: i32, _y: i32) {
        self.wish(Wish::Open);
    }

    fn menu(&self) -> Vec<MenuItem<Self>> {
        let entry = |label: &str, wish| {
            let activate = Box::new(move |item: &mut Self| item.wish(wish));
            StandardItem { label: label.into(), activate, ..StandardItem::default() }.into()
        };
        let running = StandardItem {
            label: self.tongue.running(self.running),
            enabled: false,
            ..StandardItem::default()
        };
        vec![
            entry(self.tongue.open(), Wish::Open),
            running.into(),
            MenuItem::Separator,
            entry(self.tongue.quit(), Wish::Quit),
        ]
    }
}

/// The picture as the tray wants it: ARGB, the highest byte first. A picture that does not decode is left out; trays then
/// show a mark of their own.
fn picture() -> Option<ksni::Icon> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(PICTURE)).read_info().ok()?;
    let mut data = vec![0; reader.output_buffer_size()?];
    let info = reader.next_frame(&mut data).ok()?;
    if (info.color_type, info.bit_depth) != (png::ColorType::Rgba, png::BitDepth::Eight) {
        return None;
    }
    for pixel in data.chunks_exact_mut(4) {
        pixel.rotate_right(1);
    }
    Some(ksni::Icon { width: info.width.try_into().ok()?, height: info.height.try_into().ok()?, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_is_there_and_the_apps_own() {
        let picture = picture().expect("icons/tray.png is an RGBA picture");
        assert_eq!((picture.width, picture.height), (64, 64));
        let pixel = |x: usize, y: usize| &picture.data[(y * 64 + x) * 4..][..4];
        assert_eq!(pixel(0, 0)[0], 0, "the corner is transparent");
        let [alpha, red, _, blue] = pixel(10, 32) else { panic!("a pixel has four bytes") };
        assert!(*alpha == 255 && blue > red, "the ground is blue: {:?}", pixel(10, 32));
    }

    #[test]
    fn the_menu_leads_to_the_window_and_out() {
        let (wishes, mut asked) = mpsc::channel(1);
        let mut item = Item { wishes, picture: Vec::new(), tongue: Tongue::English, running: 2 };
        let labels: Vec<String> = item
            .menu()
            .iter()
            .map(|entry| match entry {
                MenuItem::Standard(entry) => entry.label.clone(),
                _ => "-".into(),
            })
            .collect();
        assert_eq!(labels, ["Open voidVM", "2 machines are running", "-", "Quit (machines go on)"]);
        let MenuItem::Standard(quit) = item.menu().remove(3) else {
            panic!("the last entry is one to click")
        };
        (quit.activate)(&mut item);
        assert_eq!(asked.try_recv(), Ok(Wish::Quit));
        item.activate(0, 0);
        assert_eq!(asked.try_recv(), Ok(Wish::Open));
    }
}
