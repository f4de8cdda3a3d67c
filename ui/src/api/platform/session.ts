/** Whether the engine knows this browser. The desktop window always is known. */
import { shallowRef } from 'vue';

/** True after the engine answered that it does not know who asks: the app shows the page that asks for the token. */
export const signedOut = shallowRef(false);
