/** A machine's screen on a canvas: its connection, its size, and what a person does on it. */
import { onScopeDispose, shallowRef, type Ref } from 'vue';
import type { InputEvent, ViewerMessage, VmId } from '@/api/client';
import { ConsoleConnection } from '../connection';
import { Painter, type ScreenSize } from './painter';
import { WireReader } from './wire';

export function useScreen(id: VmId, canvas: Readonly<Ref<HTMLCanvasElement | null>>) {
  const size = shallowRef<ScreenSize>();
  let painter: Painter | undefined;
  let reader = new WireReader();

  function say(message: ViewerMessage): void {
    connection.send(JSON.stringify(message));
  }

  const connection = new ConsoleConnection(id, 'screen', {
    opened() {
      reader = new WireReader();
    },
    message(data) {
      if (!canvas.value) return;
      painter ??= new Painter(canvas.value, (now) => (size.value = now));
      try {
        if (reader.read(data, painter)) say({ type: 'drawn' });
      } catch (cause) {
        connection.fail(cause);
      }
    },
  });
  onScopeDispose(() => {
    connection.close();
  });

  return {
    connection,
    size,
    input: (events: InputEvent[]) => {
      if (events.length > 0) say({ type: 'input', events });
    },
    /** The screen as it is now; undefined before there was one. */
    png: () => painter?.png(),
  };
}
