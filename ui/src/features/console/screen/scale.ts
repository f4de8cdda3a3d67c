/** How large the guest's screen is shown. */
import type { ScreenSize } from './painter';

/** `fit` fills the place there is; `actual` shows each of the guest's pixels as one of the display's. */
export type ScaleMode = 'fit' | 'actual';

/** The size of the canvas on the page, in CSS pixels. */
export function shownSize(
  screen: ScreenSize,
  place: ScreenSize,
  mode: ScaleMode,
  density: number,
): ScreenSize {
  if (mode === 'actual') return { width: screen.width / density, height: screen.height / density };
  const scale = Math.min(place.width / screen.width, place.height / screen.height);
  if (!Number.isFinite(scale) || scale <= 0) return { width: 0, height: 0 };
  return { width: Math.floor(screen.width * scale), height: Math.floor(screen.height * scale) };
}
