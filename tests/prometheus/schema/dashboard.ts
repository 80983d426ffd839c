// What a dashboard's JSON may be: @grafana/schema's types, where a panel's options are those of its kind.
import type { Dashboard as Any, FieldConfig, FieldConfigSource, Panel as AnyPanel, RowPanel } from '@grafana/schema';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as series from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// JSON has an enum's values, not its names.
type Json<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Json<T[K]> } : T;

// The package has no type of the Prometheus data source's: https://grafana.com/docs/grafana/latest/datasources/prometheus/
interface Target {
  refId: string;
  datasource: { type: 'prometheus'; uid: string };
  expr: string;
  legendFormat?: string;
  format?: 'time_series' | 'table' | 'heatmap';
  instant: boolean;
  range: boolean;
  exemplar?: boolean;
}

interface Panel<Kind, Options, Custom> extends Omit<AnyPanel, 'type' | 'options' | 'targets' | 'fieldConfig'> {
  type: Kind;
  options: Options;
  targets: Target[];
  fieldConfig: Omit<FieldConfigSource, 'defaults'> & { defaults: Omit<FieldConfig, 'custom'> & { custom?: Custom } };
}

// The types name fields that Grafana's own pages leave out: those with defaults.
type Optional<T, K extends keyof T> = Omit<T, K> & Partial<Pick<T, K>>;

type One =
  | Panel<'timeseries', series.Options, series.FieldConfig>
  | Panel<'stat', stat.Options, never>
  | Panel<'table', table.Options, Optional<table.FieldConfig, 'cellOptions'>>;

export type Dashboard = Json<Omit<Any, 'panels'> & { panels: (One | RowPanel)[] }>;
