import { describe, expect, it } from 'vitest';
import { socketAddress } from './connection';

describe('the address of a console', () => {
  it('is absolute in the desktop window and a path on the local API', () => {
    expect(socketAddress('ws://127.0.0.1:9/console/x', 'tauri://localhost/')).toBe(
      'ws://127.0.0.1:9/console/x',
    );
    expect(socketAddress('/console/x', 'http://127.0.0.1:7770/machines/1')).toBe(
      'ws://127.0.0.1:7770/console/x',
    );
    expect(socketAddress('/console/x', 'https://host/')).toBe('wss://host/console/x');
  });
});
