import { describe, expect, it, vi } from 'vitest';
import type { InputEvent } from '@/api/client';
import { Keyboard } from './keyboard';
import { allKeys, combinations, keyCode, terminals } from './keys';
import { toGuest, Wheel } from './pointer';
import { PointerInput } from './pointerInput';

/** QEMU 7.2, qapi/ui.json, `QKeyCode`. */
const QEMU = new Set(
  `unmapped shift shift_r alt alt_r ctrl ctrl_r menu esc 1 2 3 4 5 6 7 8 9 0 minus equal backspace tab q w e r t y u i o p
  bracket_left bracket_right ret a s d f g h j k l semicolon apostrophe grave_accent backslash z x c v b n m comma dot slash
  asterisk spc caps_lock f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 num_lock scroll_lock kp_divide kp_multiply kp_subtract kp_add kp_enter
  kp_decimal sysrq kp_0 kp_1 kp_2 kp_3 kp_4 kp_5 kp_6 kp_7 kp_8 kp_9 less f11 f12 print home pgup pgdn end left up down right
  insert delete stop again props undo front copy open paste find cut lf help meta_l meta_r compose pause ro hiragana henkan yen
  muhenkan katakanahiragana kp_comma kp_equals power sleep wake audionext audioprev audiostop audioplay audiomute volumeup
  volumedown mediaselect mail calculator computer ac_home ac_back ac_forward ac_refresh ac_bookmarks lang1 lang2 f13 f14 f15 f16
  f17 f18 f19 f20 f21 f22 f23 f24`.split(/\s+/),
);

describe('keys', () => {
  it('are all names QEMU knows', () => {
    for (const [code, name] of allKeys) expect(QEMU, code).toContain(name);
    for (const { keys } of [...combinations, ...terminals]) {
      for (const name of keys) expect(QEMU).toContain(name);
      expect(keys.length).toBeLessThanOrEqual(8);
    }
  });

  it('are the physical ones', () => {
    expect(keyCode('IntlBackslash')).toBe('less');
    expect(keyCode('NumpadEnter')).toBe('kp_enter');
    expect(keyCode('MetaLeft')).toBe('meta_l');
    expect(keyCode('ContextMenu')).toBe('compose');
    expect(keyCode('')).toBeUndefined();
    expect(keyCode('toString')).toBeUndefined();
    expect(allKeys.size).toBeGreaterThan(150);
  });
});

function keyboard() {
  const send = vi.fn<(events: InputEvent[]) => void>();
  const leave = vi.fn();
  const keys = new Keyboard({ send, leave });
  const press = (code: string, repeat = false) => keys.take({ type: 'keydown', code, repeat });
  const release = (code: string) => keys.take({ type: 'keyup', code, repeat: false });
  const sent = () =>
    send.mock.calls
      .flatMap(([events]) => events)
      .map((event) => (event.type === 'key' ? `${event.down ? '+' : '-'}${event.code}` : '?'));
  return { keys, press, release, sent, leave };
}

describe('the keyboard', () => {
  it('sends a held key once', () => {
    const { press, release, sent } = keyboard();
    expect(press('KeyA')).toBe(true);
    press('KeyA', true);
    press('KeyA');
    release('KeyA');
    release('KeyA');
    expect(sent()).toEqual(['+a', '-a']);
  });

  it('leaves unknown keys to the page', () => {
    const { press, sent } = keyboard();
    expect(press('Fn')).toBe(false);
    expect(sent()).toEqual([]);
  });

  it('is given back by Ctrl+Alt alone', () => {
    const { press, release, sent, leave } = keyboard();
    press('ControlLeft');
    press('AltLeft');
    expect(leave).not.toHaveBeenCalled();
    release('AltLeft');
    expect(leave).toHaveBeenCalledOnce();
    expect(sent()).toEqual(['+ctrl', '+alt', '-alt', '-ctrl']);
  });

  it('is kept by a combination with Ctrl+Alt', () => {
    const { press, release, leave } = keyboard();
    for (const code of ['ControlLeft', 'AltLeft', 'F2']) press(code);
    for (const code of ['F2', 'AltLeft', 'ControlLeft']) release(code);
    expect(leave).not.toHaveBeenCalled();
  });

  it('lets everything go at once', () => {
    const { keys, press, sent } = keyboard();
    press('ShiftLeft');
    press('KeyA');
    keys.releaseAll();
    keys.releaseAll();
    expect(sent()).toEqual(['+shift', '+a', '-shift', '-a']);
  });
});

describe('the pointer', () => {
  const box = { left: 100, top: 50, width: 201, height: 101 };

  it('is absolute, from edge to edge', () => {
    expect(toGuest(100, 50, box)).toEqual({ x: 0, y: 0 });
    expect(toGuest(300, 150, box)).toEqual({ x: 32767, y: 32767 });
    expect(toGuest(200, 100, box)).toEqual({ x: 16384, y: 16384 });
    expect(toGuest(-9, 999, box)).toEqual({ x: 0, y: 32767 });
    expect(toGuest(5, 5, { left: 0, top: 0, width: 0, height: 1 })).toEqual({ x: 0, y: 0 });
  });

  it('turns whole notches, and backwards at once', () => {
    const wheel = new Wheel();
    const turn = (deltaY: number, deltaMode = 0) => wheel.turn({ deltaX: 0, deltaY, deltaMode }).length;
    expect(turn(60)).toBe(0);
    expect(turn(60)).toBe(1);
    expect(turn(-100)).toBe(1);
    expect(turn(3, 1)).toBe(1);
    expect(turn(100_000)).toBe(8);
    expect(wheel.turn({ deltaX: -100, deltaY: 0, deltaMode: 0 })).toEqual([
      { type: 'wheel', direction: 'left' },
    ]);
  });

  function pointer() {
    const sent: string[] = [];
    const input = new PointerInput(
      () => box,
      (events) => {
        for (const event of events) {
          if (event.type === 'button') sent.push(`${event.down ? '+' : '-'}${event.button}`);
          else if (event.type === 'wheel') sent.push(event.direction);
        }
      },
    );
    const give = (type: string, more: Partial<PointerEvent>) => {
      input.take({
        type,
        pointerType: 'mouse',
        pointerId: 1,
        buttons: 0,
        clientX: 200,
        clientY: 100,
        ...more,
      } as PointerEvent);
    };
    return { input, give, sent };
  }

  it('tells every button, the second one too', () => {
    const { input, give, sent } = pointer();
    give('pointerdown', { buttons: 1 });
    give('pointermove', { buttons: 3 });
    give('pointermove', { buttons: 2 });
    give('pointerup', { buttons: 0 });
    give('pointerdown', { buttons: 8 });
    input.releaseAll();
    expect(sent).toEqual(['+left', '+right', '-left', '-right', '+side', '-side']);
  });

  it('makes a tap a click, a held finger a right click, two fingers the wheel', () => {
    vi.useFakeTimers();
    const { give, sent } = pointer();
    const finger = (type: string, more: Partial<PointerEvent> = {}) => {
      give(type, { pointerType: 'touch', ...more });
    };
    finger('pointerdown');
    finger('pointerup');
    expect(sent.splice(0)).toEqual(['+left', '-left']);
    finger('pointerdown');
    vi.advanceTimersByTime(500);
    finger('pointerup');
    expect(sent.splice(0)).toEqual(['+right', '-right']);
    finger('pointerdown');
    finger('pointermove', { clientX: 240 });
    vi.advanceTimersByTime(900);
    finger('pointerup', { clientX: 240 });
    expect(sent.splice(0)).toEqual(['+left', '-left']);
    finger('pointerdown');
    finger('pointerdown', { pointerId: 2 });
    finger('pointermove', { clientY: 0 });
    finger('pointermove', { pointerId: 2, clientY: 0 });
    finger('pointerup');
    finger('pointerup', { pointerId: 2 });
    expect(sent).toEqual(['down']);
    vi.useRealTimers();
  });
});
