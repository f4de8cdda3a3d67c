/**
 * Physical keys: what a browser calls them (`KeyboardEvent.code`) and what QEMU does (`QKeyCode` of qapi/ui.json). The guest's own
 * layout decides what they mean, so there is no layout here.
 */

function row(codes: string, names: string): [string, string][] {
  const keys = names.split(' ');
  return codes.split(' ').map((code, at) => [code, keys[at] ?? '']);
}

const letters = [...'abcdefghijklmnopqrstuvwxyz'].map((letter): [string, string] => [
  `Key${letter.toUpperCase()}`,
  letter,
]);
const digits = [...'0123456789'].map((digit): [string, string] => [`Digit${digit}`, digit]);
const keypad = [...'0123456789'].map((digit): [string, string] => [`Numpad${digit}`, `kp_${digit}`]);
const functions = Array.from({ length: 24 }, (_, at): [string, string] => [
  `F${String(at + 1)}`,
  `f${String(at + 1)}`,
]);

const table = new Map<string, string>([
  ...letters,
  ...digits,
  ...keypad,
  ...functions,
  ...row(
    'Minus Equal Backspace Tab BracketLeft BracketRight Enter',
    'minus equal backspace tab bracket_left bracket_right ret',
  ),
  ...row(
    'Semicolon Quote Backquote Backslash Comma Period Slash',
    'semicolon apostrophe grave_accent backslash comma dot slash',
  ),
  ...row('Space Escape CapsLock NumLock ScrollLock', 'spc esc caps_lock num_lock scroll_lock'),
  // The key between Shift and Z of European keyboards, and those of Japanese, Korean and Brazilian ones.
  ...row(
    'IntlBackslash IntlRo IntlYen KanaMode Convert NonConvert',
    'less ro yen katakanahiragana henkan muhenkan',
  ),
  ...row('Lang1 Lang2 Lang3 Lang4', 'lang1 lang2 katakanahiragana hiragana'),
  ...row('ShiftLeft ShiftRight ControlLeft ControlRight', 'shift shift_r ctrl ctrl_r'),
  ...row('AltLeft AltRight MetaLeft MetaRight ContextMenu', 'alt alt_r meta_l meta_r compose'),
  // WebKit and older engines say OS.
  ...row('OSLeft OSRight', 'meta_l meta_r'),
  ...row(
    'PrintScreen Pause Insert Delete Home End PageUp PageDown',
    'print pause insert delete home end pgup pgdn',
  ),
  ...row('ArrowLeft ArrowUp ArrowDown ArrowRight', 'left up down right'),
  ...row('NumpadDivide NumpadMultiply NumpadSubtract NumpadAdd', 'kp_divide kp_multiply kp_subtract kp_add'),
  ...row('NumpadEnter NumpadDecimal NumpadComma NumpadEqual', 'kp_enter kp_decimal kp_comma kp_equals'),
  ...row('Help Undo Again Props Copy Cut Paste Find Open', 'help undo again props copy cut paste find open'),
  ...row('Power Sleep WakeUp', 'power sleep wake'),
  ...row('AudioVolumeMute AudioVolumeDown AudioVolumeUp', 'audiomute volumedown volumeup'),
  ...row('VolumeMute VolumeDown VolumeUp', 'audiomute volumedown volumeup'),
  ...row(
    'MediaTrackNext MediaTrackPrevious MediaStop MediaPlayPause',
    'audionext audioprev audiostop audioplay',
  ),
  ...row('MediaSelect LaunchMail LaunchApp1 LaunchApp2', 'mediaselect mail computer calculator'),
  ...row('BrowserHome BrowserBack BrowserForward BrowserRefresh', 'ac_home ac_back ac_forward ac_refresh'),
  ...row('BrowserFavorites BrowserSearch BrowserStop', 'ac_bookmarks find stop'),
]);

/** QEMU's name of the key, or undefined for one no guest knows. */
export function keyCode(code: string): string | undefined {
  return table.get(code);
}

/** Every key of the table, for the tests. */
export const allKeys: ReadonlyMap<string, string> = table;

export interface Combination {
  readonly id: string;
  /** As people write it. */
  readonly label: string;
  readonly keys: readonly string[];
}

function combination(label: string, ...keys: string[]): Combination {
  return { id: keys.join('-'), label, keys };
}

/** What the host's desktop or the browser keeps for itself, so that it has to be sent from a menu. */
export const combinations: readonly Combination[] = [
  combination('Ctrl+Alt+Del', 'ctrl', 'alt', 'delete'),
  combination('Ctrl+Alt+Backspace', 'ctrl', 'alt', 'backspace'),
  combination('Alt+Tab', 'alt', 'tab'),
  combination('Alt+F4', 'alt', 'f4'),
  combination('Ctrl+Esc', 'ctrl', 'esc'),
  combination('Ctrl+W', 'ctrl', 'w'),
  combination('Super', 'meta_l'),
  combination('Super+L', 'meta_l', 'l'),
  combination('PrintScreen', 'print'),
  combination('Alt+SysRq', 'alt', 'sysrq'),
  combination('Menu', 'compose'),
  combination('Pause', 'pause'),
];

/** The guest's text consoles. */
export const terminals: readonly Combination[] = Array.from({ length: 12 }, (_, at) =>
  combination(`Ctrl+Alt+F${String(at + 1)}`, 'ctrl', 'alt', `f${String(at + 1)}`),
);
