import type { Messages } from '../schema';
import backups from './backups';
import common from './common';
import console from './console';
import create from './create';
import doctor from './doctor';
import errors from './errors';
import forwards from './forwards';
import hardware from './hardware';
import history from './history';
import images from './images';
import machine from './machine';
import machines from './machines';
import monitor from './monitor';
import operations from './operations';
import overview from './overview';
import palette from './palette';
import schedules from './schedules';
import settings from './settings';
import shell from './shell';
import snapshots from './snapshots';
import storage from './storage';
import updates from './updates';
import vm from './vm';

export default {
  common,
  console,
  errors,
  machines,
  overview,
  palette,
  shell,
  vm,
  forwards,
  hardware,
  images,
  storage,
  snapshots,
  schedules,
  backups,
  history,
  monitor,
  create,
  operations,
  machine,
  doctor,
  updates,
  settings,
} satisfies Messages;
