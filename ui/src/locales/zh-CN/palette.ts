import type { Same } from '../schema';
import type en from '../en/palette';

export default {
  open: '搜索与命令',
  group: {
    general: '通用',
    go: '前往',
    look: '外观与语言',
    lists: '在虚拟机列表中',
    console: '在控制台中',
  },
  keys: {
    move: '移动',
    open: '打开虚拟机',
    select: '选中或取消选中',
    start: '启动或继续运行',
    stop: '关机',
    console: '打开控制台',
    leave: '释放键盘和鼠标',
  },
} satisfies Same<typeof en>;
