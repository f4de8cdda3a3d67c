import { describe, expect, it } from 'vitest';
import { shownSize } from './scale';

const size = (width: number, height: number) => ({ width, height });

describe('the size a screen is shown in', () => {
  it('fits and keeps its shape', () => {
    expect(shownSize(size(1280, 800), size(640, 640), 'fit', 1)).toEqual(size(640, 400));
    expect(shownSize(size(1280, 800), size(2560, 800), 'fit', 2)).toEqual(size(1280, 800));
    expect(shownSize(size(720, 400), size(1440, 900), 'fit', 1)).toEqual(size(1440, 800));
  });

  it('shows a pixel as a pixel, on fine displays too', () => {
    expect(shownSize(size(1280, 800), size(10, 10), 'actual', 2)).toEqual(size(640, 400));
  });

  it('is nothing where there is no place', () => {
    expect(shownSize(size(1280, 800), size(0, 300), 'fit', 1)).toEqual(size(0, 0));
    expect(shownSize(size(0, 0), size(0, 0), 'fit', 1)).toEqual(size(0, 0));
  });
});
