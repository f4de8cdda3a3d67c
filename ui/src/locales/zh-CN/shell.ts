import type { Same } from '../schema';
import type en from '../en/shell';

export default {
  skip: '跳到内容',
  navigation: '主导航',
  nav: {
    overview: '概览',
    machines: '虚拟机',
    activity: '活动',
    settings: '设置',
    doctor: '诊断',
  },
  search: '搜索或输入命令',
  newMachine: '新建虚拟机',
  theme: { label: '主题', system: '跟随系统', light: '浅色', dark: '深色' },
  language: { label: '语言', system: '跟随系统' },
  appearance: '外观',
  shortcuts: '键盘快捷键',
  connection: {
    lost: '引擎没有响应，当前内容可能不是最新的。',
    retry: '立即重试',
    back: '引擎已恢复响应。',
  },
  notices: '通知',
  operations: {
    title: '操作',
    running: '{count} 项操作正在进行',
    hide: '收起列表',
    show: '展开列表',
    cancel: '取消：{what}',
    dismiss: '关闭列表',
    ended: '刚刚结束',
  },
  close: {
    title: '关闭窗口？',
    running: '没有正在运行的虚拟机。 | {count} 台虚拟机将继续运行。 | {count} 台虚拟机将继续运行。',
    text: '可以留在托盘中，以便在需要时提醒您，也可以退出 voidVM。无论哪种方式，虚拟机都会继续运行。',
    tray: '留在托盘',
    quit: '退出 voidVM',
    remember: '记住我的选择',
  },
  signIn: {
    title: '打开 voidVM',
    text: '尚未识别此浏览器，请输入本地 API 的令牌。',
    token: '令牌',
    where: '令牌可在桌面应用的设置中找到，或在运行“voidvm serve”时显示的地址中找到。',
    action: '打开',
    wrong: '令牌不正确。',
  },
  notFound: { title: '没有这个页面', text: '地址可能已失效或输入有误。', home: '前往概览' },
} satisfies Same<typeof en>;
