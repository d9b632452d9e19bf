// The part of OpenClaw's plugin API that the plugin uses. OpenClaw's own types would bring the
// whole gateway into the build; tests/openclaw/plugin compares these with them.

export interface Logger {
  info(message: string): void;
  warn(message: string): void;
}

/** What OpenClaw knows about the turn that a tool is made for. */
export interface ToolContext {
  sessionKey?: string;
  workspaceDir?: string;
  sandboxed?: boolean;
}

export interface ToolResult {
  content: { type: "text"; text: string }[];
  details: Record<string, unknown>;
}

export interface AgentTool {
  name: string;
  label: string;
  description: string;
  parameters: Record<string, unknown>;
  execute(callId: string, params: Record<string, unknown>, signal?: AbortSignal): Promise<ToolResult>;
}

export interface Gateway {
  logger: Logger;
  pluginConfig?: Record<string, unknown>;
  on(event: "gateway_start", handler: () => void): void;
  registerTool(make: (context: ToolContext) => AgentTool | null, options: { name: string }): void;
}
