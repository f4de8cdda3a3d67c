/** An icon in the size and colour of the text around it. It says nothing by itself: the words beside it, or a label, do. */
import { h, type FunctionalComponent } from 'vue';
import { icons, type IconName } from './icons';

export const Icon: FunctionalComponent<{ name: IconName; size?: string }> = ({ name, size = '1em' }) => {
  const source = icons[name];
  // The pictures come from the bundle, never from data.
  return h('svg', {
    class: 'icon',
    xmlns: 'http://www.w3.org/2000/svg',
    viewBox: '0 0 16 16',
    width: size,
    height: size,
    fill: 'currentColor',
    'aria-hidden': 'true',
    focusable: 'false',
    innerHTML: source.slice(source.indexOf('>') + 1, source.lastIndexOf('</svg>')),
  });
};
Icon.props = ['name', 'size'];
