import type { Messages } from '../schema';
import common from './common';
import create from './create';
import errors from './errors';
import forwards from './forwards';
import hardware from './hardware';
import machines from './machines';
import overview from './overview';
import palette from './palette';
import shell from './shell';
import vm from './vm';

export default {
  common,
  errors,
  machines,
  overview,
  palette,
  shell,
  vm,
  forwards,
  hardware,
  create,
} satisfies Messages;
