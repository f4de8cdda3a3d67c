import { beforeEach, describe, expect, it, vi } from 'vitest';
import { toApiError } from '@/api/client/errors';
import { signedOut } from './session';
import { browserPlatform, signIn } from './web';

function answer(status: number, body: unknown): void {
  vi.spyOn(globalThis, 'fetch').mockResolvedValue(
    new Response(typeof body === 'string' ? body : JSON.stringify(body), { status }),
  );
}

const send = (name: string, payload: unknown = {}) => browserPlatform.transport.send(name, payload);
const failure = (promise: Promise<unknown>) => promise.then(() => undefined, toApiError);
const error = { code: 'vm_not_found', message: 'gone', retryable: false, traceId: '1' };

beforeEach(() => {
  signedOut.value = false;
});

describe('commands by HTTP', () => {
  it('go to the command by its name and answer with the data', async () => {
    answer(200, { code: 200, message: 'OK', data: [1], timestamp: '' });
    expect(await send('vm.list', { state: 'running' })).toEqual([1]);
    const [url, init] = vi.mocked(fetch).mock.calls[0] ?? [];
    expect(url).toBe('/api/v1/rpc/vm.list');
    expect(init).toMatchObject({ method: 'POST', body: '{"state":"running"}', credentials: 'same-origin' });
  });

  it('fail with the error of the envelope', async () => {
    answer(404, { code: 404, message: 'Not found', error, timestamp: '' });
    expect((await failure(send('vm.get')))?.body).toEqual(error);
    expect(signedOut.value).toBe(false);
  });

  it('fail with a network error where nobody, or somebody else, answers', async () => {
    vi.spyOn(globalThis, 'fetch').mockRejectedValue(new TypeError('refused'));
    expect((await failure(send('vm.list')))?.code).toBe('network_failed');
    answer(502, '<html>proxy</html>');
    expect((await failure(send('vm.list')))?.body).toMatchObject({ code: 'network_failed', retryable: true });
    answer(500, { code: 500 });
    expect((await failure(send('vm.list')))?.code).toBe('network_failed');
  });

  it('ask to sign in when the engine does not know who asks, until it does', async () => {
    answer(401, { code: 401, error: { ...error, code: 'unauthenticated' } });
    expect((await failure(send('vm.list')))?.code).toBe('unauthenticated');
    expect(signedOut.value).toBe(true);
    answer(401, '');
    expect((await failure(signIn('guess')))?.code).toBe('unauthenticated');
    expect(signedOut.value).toBe(true);
    answer(200, { code: 200, data: { done: true } });
    await signIn('right');
    expect(signedOut.value).toBe(false);
  });
});
