import type { Same } from '../schema';
import type en from '../en/updates';

export default {
  title: '更新',
  browser: '引擎在其所在的计算机上更新：通过软件包，或通过那里的桌面应用。',
  idle: '只有在您要求时，voidVM 才会检查更新。',
  checking: '正在检查更新',
  current: '{version} 已是最新版本。',
  available: '有新版本 {version}，当前版本为 {current}。',
  off: {
    no_endpoint: '更新已关闭：未设置更新地址。',
    no_key: '更新已关闭：此版本没有用于验证的密钥，请使用原来的软件包更新。',
  },
  check: '检查更新',
  install: '安装',
  downloading: '正在下载并验证',
  installed: '更新已安装，重启 voidVM 后生效。',
  restart: '重启 voidVM',
  machinesGoOn: '{count} 台运行中的虚拟机会继续运行。',
  notes: '新版本内容',
} satisfies Same<typeof en>;
