import { mount } from 'svelte';

import App from './App.svelte';
import { start } from './lib/feed.svelte';
import './style.css';

start();
mount(App, { target: document.getElementById('app')! });
