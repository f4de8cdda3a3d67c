import common from './common';
import console from './console';
import create from './create';
import errors from './errors';
import forwards from './forwards';
import hardware from './hardware';
import machine from './machine';
import machines from './machines';
import operations from './operations';
import overview from './overview';
import palette from './palette';
import shell from './shell';
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
  create,
  operations,
  machine,
};
