/** The engine as the surface sees it: typed commands, one event stream, one error. */
import { platform } from '@/api/platform';
import { EventStream } from './events';

export { call, type CommandName, type Reply, type Request } from './call';
export { ApiError, localError, toApiError } from './errors';
export { EventStream, type EventListener, type StreamState } from './events';
export * from '@/api/generated/commands';

/** The one stream of this window; the app starts it. */
export const events = new EventStream(platform.transport);
